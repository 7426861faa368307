#include "trireme/launch/environment.h"

#include <fmt/format.h>

#include <charconv>
#include <cstdint>
#include <cstdlib>
#include <limits>

#include "trireme/base/error.h"
#include "trireme/formats/printable.h"

namespace trireme {
namespace {

constexpr const char* kWorldFd = "TRIREME_WORLD_FD";
constexpr const char* kAddress = "MASTER_ADDR";
constexpr const char* kPort = "MASTER_PORT";
constexpr const char* kStepHosts = "SLURM_STEP_NODELIST";

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
    {"SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID", nullptr, kStepHosts, Starter::kSlurm},
};
constexpr const char* kStepNumber = "SLURM_STEP_ID";
// Of the allocation; only old versions of Slurm do not set the number of the step.
constexpr const char* kTasksOfAllocation = "SLURM_NTASKS";

constexpr int kMostRanks = 1'000'000;
constexpr int kMostSeconds = 10'000'000;
constexpr std::int64_t kMostJobs = std::numeric_limits<std::uint32_t>::max();

// Reads variables and remembers their names.
class Reader {
 public:
  explicit Reader(const Lookup& lookup) : lookup_(lookup) {}

  bool has(const char* name) const { return lookup_(name).has_value(); }

  std::optional<int> number(const char* name, int least, int most = kMostRanks) {
    const auto value = whole_number(name, least, most);
    return value ? std::optional(static_cast<int>(*value)) : std::nullopt;
  }

  std::optional<std::int64_t> whole_number(const char* name, std::int64_t least,
                                           std::int64_t most) {
    const std::optional<std::string> text = lookup_(name);
    if (!text) return std::nullopt;
    names_ += (names_.empty() ? "" : ", ") + std::string(name);
    std::int64_t value = 0;
    const char* end = text->data() + text->size();
    const auto [stop, error] = std::from_chars(text->data(), end, value);
    if (error != std::errc() || stop != end || value < least || value > most) {
      throw UsageError(fmt::format("environment: {} must be a whole number from {} to {}, got {}",
                                   name, least, most, printable(*text)));
    }
    return value;
  }

  int required(const char* name, int least, const char* because) {
    if (const auto value = number(name, least)) return *value;
    refuse_alone(because, name);
  }

  [[noreturn]] static void refuse_alone(const char* name, const char* missing) {
    throw UsageError(
        fmt::format("environment: {} is set but {} is not; set both or neither", name, missing));
  }

  std::optional<std::string> text(const char* name) const { return lookup_(name); }

  std::string name_of_host(const char* name, const std::string& text) const {
    if (!text.empty()) return text;
    throw UsageError(fmt::format("environment: {} must name a host, got \"\"", name));
  }

  bool flag(const char* name) const {
    const std::string text = lookup_(name).value_or("False");
    if (text == "True" || text == "False") return text == "True";
    throw UsageError(
        fmt::format("environment: {} must be True or False, got {}", name, printable(text)));
  }

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
constexpr int kMostPorts = 65535;

// Jobs and steps on one host need different ports, below those of outgoing connections (from
// 32768). The factor has no divisor in common with the number of ports.
int port_of_step(Reader& reader) {
  const std::int64_t job = reader.whole_number("SLURM_JOB_ID", 0, kMostJobs).value_or(0);
  const std::int64_t step = reader.whole_number(kStepNumber, 0, kMostJobs).value_or(0);
  return static_cast<int>(20000 + (job + 1009 * step) % 12000);
}

// True in the shell of an allocation, which Slurm counts as a step with one of its last numbers: it
// was not started by srun with a program of ours.
bool is_in_shell_of_allocation(const Reader& reader) {
  constexpr std::uint32_t kFirstOfSlurm = 0xfffffffa;  // interactive, batch, extern and pending
  const std::optional<std::string> text = reader.text(kStepNumber);
  std::uint32_t step = 0;
  return text &&
         std::from_chars(text->data(), text->data() + text->size(), step).ec == std::errc() &&
         step >= kFirstOfSlurm;
}

// In a job of Slurm that has more than one task or host, or may have: srun was meant, perhaps.
std::string note_on_slurm(const Reader& reader) {
  const auto job = reader.text("SLURM_JOB_ID");
  const auto tasks = reader.text(kTasksOfAllocation);
  const auto hosts = reader.text("SLURM_JOB_NUM_NODES");
  if (!job || (tasks == "1" && hosts.value_or("1") == "1")) return {};
  return fmt::format(
      "this is a shell of Slurm job {} and no step of srun: the program uses this host alone; "
      "`srun "
      "program` starts a rank in each task of the job",
      without_control_characters(*job));
}

std::string job_of(const Reader& reader, Starter starter) {
  for (const char* name : {"TRIREME_JOB_ID", "TORCHELASTIC_RUN_ID"}) {
    if (const auto id = reader.text(name); id && !id->empty()) return *id;
  }
  // Only then do all ranks have the variables: others may have been started over ssh.
  const auto job = reader.text("SLURM_JOB_ID");
  if (starter != Starter::kSlurm || !job) return {};
  return fmt::format("slurm {}.{}", *job, reader.text(kStepNumber).value_or("0"));
}

std::optional<MeetingPoint> read_meeting_point(Reader& reader, Starter starter) {
  MeetingPoint meeting;
  const auto port = reader.number(kPort, 1, kMostPorts);
  if (const auto address = reader.text(kAddress)) {
    meeting.address = reader.name_of_host(kAddress, *address);
    meeting.port = port.value_or(kUsualPort);
  } else if (starter == Starter::kSlurm) {
    meeting.address =
        reader.name_of_host(kStepHosts, first_host(reader.text(kStepHosts).value_or("")));
    meeting.port = port ? *port : port_of_step(reader);
  } else {
    // The other launchers' ranks may meet without.
    if (port && starter == Starter::kTorchrun) reader.refuse_alone(kPort, kAddress);
    return std::nullopt;
  }
  meeting.is_served = reader.flag("TORCHELASTIC_USE_AGENT_STORE");
  meeting.attempt = reader.text("TORCHELASTIC_RESTART_COUNT").value_or("");
  return meeting;
}

RankEnvironment read_family(Reader& reader, Family family) {
  if (family.starter == Starter::kSlurm && !reader.has(family.world_size)) {
    family.world_size = kTasksOfAllocation;
  }
  RankEnvironment environment;
  const bool has_size = reader.has(family.world_size);
  environment.rank = reader.required(family.rank, 0, has_size ? family.world_size : kWorldFd);
  environment.world_size = reader.required(family.world_size, 1, family.rank);
  environment.local_rank = reader.number(family.local_rank, 0).value_or(0);
  if (family.local_world_size != nullptr) {
    environment.local_world_size = reader.number(family.local_world_size, 1);
    if (environment.local_world_size.value_or(1) > 1 && !reader.has(family.local_rank)) {
      reader.refuse_alone(family.local_world_size, family.local_rank);
    }
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
    if (family.starter == Starter::kSlurm && is_in_shell_of_allocation(reader)) continue;
    RankEnvironment environment = read_family(reader, family);
    if (ours) environment.world_fd = reader.number(kWorldFd, 0, std::numeric_limits<int>::max());
    environment.variables = reader.names();
    environment.starter = family.starter;
    environment.speaks_pmix = reader.has("PMIX_RANK");
    environment.meeting = read_meeting_point(reader, family.starter);
    environment.job = job_of(reader, family.starter);
    environment.secret = read_job_secret(lookup);
    if (const auto seconds = reader.number(kTimeoutVariable, 1, kMostSeconds)) {
      environment.timeout = std::chrono::seconds(*seconds);
    }
    return environment;
  }
  RankEnvironment alone;
  alone.local_world_size = 1;
  alone.note = note_on_slurm(reader);
  return alone;
}

JobSecret read_job_secret(const Lookup& lookup) {
  if (const auto hex = lookup(kJobSecretVariable)) return JobSecret::from_hex(*hex);
  const auto file = lookup("TRIREME_JOB_SECRET_FILE");
  if (!file) return {};
  if (file->empty()) {
    throw UsageError("environment: TRIREME_JOB_SECRET_FILE must name a file, got \"\"");
  }
  return JobSecret::from_file(*file);
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
