#include "trireme/launch/environment.h"

#include <fmt/format.h>

#include <charconv>
#include <cstdlib>

#include "trireme/base/error.h"

namespace trireme {
namespace {

struct Family {
  const char* rank;
  const char* world_size;
  const char* local_rank;
  const char* local_world_size;  // null if the launcher sets none
  const char* sign;              // the others count only if this one is set, too; or null
  Starter starter;
};

constexpr Family kFamilies[] = {
    {"RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", nullptr, Starter::kTorchrun},
    {"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK",
     "OMPI_COMM_WORLD_LOCAL_SIZE", nullptr, Starter::kOpenMpi},
    {"PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", "MPI_LOCALNRANKS", nullptr, Starter::kPmi},
    // A batch script has SLURM_PROCID=0 as well, but does not belong to a step.
    {"SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID", nullptr, "SLURM_STEP_NODELIST",
     Starter::kSlurm},
};
constexpr const char* kWorldFd = "TRIREME_WORLD_FD";

// Reads variables and remembers their names.
class Reader {
 public:
  explicit Reader(const Lookup& lookup) : lookup_(lookup) {}

  bool has(const char* name) const { return lookup_(name).has_value(); }

  std::optional<int> number(const char* name, int least) {
    const std::optional<std::string> text = lookup_(name);
    if (!text) return std::nullopt;
    names_ += (names_.empty() ? "" : ", ") + std::string(name);
    int value = 0;
    const char* end = text->data() + text->size();
    const auto [stop, error] = std::from_chars(text->data(), end, value);
    if (error != std::errc() || stop != end || value < least) {
      throw UsageError(fmt::format(
          "environment: {} must be a whole number of at least {}, got \"{}\"", name, least, *text));
    }
    return value;
  }

  int required(const char* name, int least, const char* because) {
    if (const auto value = number(name, least)) return *value;
    throw UsageError(
        fmt::format("environment: {} is set but {} is not; set both or neither", because, name));
  }

  std::optional<std::string> text(const char* name) const { return lookup_(name); }

  const std::string& names() const { return names_; }

 private:
  const Lookup& lookup_;
  std::string names_;
};

struct Variable {
  const char* name;
  int value;
};

void check_below(Variable variable, Variable limit) {
  if (variable.value < limit.value) return;
  throw UsageError(fmt::format("environment: {}={} must be below {}={}", variable.name,
                               variable.value, limit.name, limit.value));
}

void check_at_most(Variable variable, Variable limit) {
  if (variable.value <= limit.value) return;
  throw UsageError(fmt::format("environment: {}={} must be at most {}={}", variable.name,
                               variable.value, limit.name, limit.value));
}

constexpr int kUsualPort = 29500;

std::optional<MeetingPoint> read_meeting_point(Reader& reader, Starter starter) {
  MeetingPoint meeting;
  if (const auto address = reader.text("MASTER_ADDR")) {
    meeting.address = *address;
    meeting.port = reader.number("MASTER_PORT", 1).value_or(kUsualPort);
  } else if (starter == Starter::kSlurm) {
    meeting.address = first_host(reader.text("SLURM_STEP_NODELIST").value_or(""));
    // Jobs on one host need different ports, below those of outgoing connections (from 32768).
    const int job = reader.number("SLURM_JOB_ID", 0).value_or(0);
    meeting.port = reader.number("MASTER_PORT", 1).value_or(20000 + job % 12000);
  } else {
    return std::nullopt;
  }
  meeting.is_served = reader.text("TORCHELASTIC_USE_AGENT_STORE").value_or("") == "True";
  meeting.attempt = reader.text("TORCHELASTIC_RESTART_COUNT").value_or("");
  return meeting;
}

RankEnvironment read_family(Reader& reader, const Family& family) {
  RankEnvironment environment;
  environment.rank = reader.required(family.rank, 0, family.world_size);
  environment.world_size = reader.required(family.world_size, 1, family.rank);
  environment.local_rank = reader.number(family.local_rank, 0).value_or(0);
  if (family.local_world_size != nullptr) {
    environment.local_world_size = reader.number(family.local_world_size, 1);
  }

  const Variable world{family.world_size, environment.world_size};
  const Variable local_rank{family.local_rank, environment.local_rank};
  check_below({family.rank, environment.rank}, world);
  check_below(local_rank, world);
  if (environment.local_world_size) {
    const Variable local_world{family.local_world_size, *environment.local_world_size};
    check_below(local_rank, local_world);
    check_at_most(local_world, world);
  }
  return environment;
}

}  // namespace

std::optional<std::string> process_environment(const std::string& name) {
  const char* value = std::getenv(name.c_str());
  if (value == nullptr) return std::nullopt;
  return value;
}

RankEnvironment read_environment(const Lookup& lookup) {
  Reader reader(lookup);
  const Family& torchrun = kFamilies[0];
  for (const Family& family : kFamilies) {
    const bool ours = &family == &torchrun;
    // WORLD_SIZE or the descriptor alone is a mistake; SLURM_NTASKS alone is a login shell.
    const bool given = reader.has(family.rank) ||
                       (ours && (reader.has(family.world_size) || reader.has(kWorldFd)));
    if (!given || (family.sign != nullptr && !reader.has(family.sign))) continue;
    RankEnvironment environment = read_family(reader, family);
    if (ours) environment.world_fd = reader.number(kWorldFd, 0);
    environment.variables = reader.names();
    environment.starter = family.starter;
    environment.speaks_pmix = reader.has("PMIX_RANK");
    environment.meeting = read_meeting_point(reader, family.starter);
    return environment;
  }
  RankEnvironment alone;
  alone.local_world_size = 1;
  return alone;
}

std::string first_host(const std::string& node_list) {
  std::string host;
  for (std::size_t i = 0; i < node_list.size() && node_list[i] != ','; ++i) {
    if (node_list[i] != '[') {
      host += node_list[i];
      continue;
    }
    const auto first_end = node_list.find_first_of("-,]", i);
    const auto close = node_list.find(']', i);
    if (close == std::string::npos) {
      throw UsageError(fmt::format(
          "environment: a bracket of Slurm's node list is not closed: \"{}\"", node_list));
    }
    host += node_list.substr(i + 1, first_end - i - 1);
    i = close;
  }
  return host;
}

}  // namespace trireme
