#include <ATen/Version.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <torch/version.h>

#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "trireme/base/error.h"
#include "trireme/cli/commands.h"
#include "trireme/cli/configuration_words.h"
#include "trireme/cli/folder_check.h"
#include "trireme/cli/launchers.h"
#include "trireme/cli/rank_threads.h"
#include "trireme/cli/terminal.h"
#include "trireme/comm/mpi/mpi.h"
#include "trireme/launch/blas.h"
#include "trireme/launch/exit_codes.h"
#include "trireme/launch/limits.h"
#include "trireme/launch/local_network.h"
#include "trireme/launch/machine.h"
#include "trireme/server/zmq/library.h"
#include "trireme/world/connect.h"

namespace trireme::cli {

namespace {

// What doctor has found.
struct Findings {
  Machine machine = inspect_machine();
  Blas blas = blas_of_process();
  ProcessLimits limits = limits_of_process();
  LocalNetwork network = inspect_local_network();
  std::vector<Launcher> launchers = find_launchers();
  std::string mpi_advice = advice_on_mpi(mpi::library(), launchers);
  int ranks = 1;        // of this host: of the launcher, or that `trireme train` would start
  std::string threads;  // line_on_threads()
  std::optional<FolderCheck> folder;
  std::vector<std::string> warnings;
};

// Without memfd the ranks of a host cannot share memory.
std::vector<std::string> backends(const Machine& machine) {
  std::vector<std::string> all = available_backends();
  if (!machine.memfd_works) std::erase(all, "shm");
  return all;
}

std::string size_of(std::int64_t bytes) {
  return memory_size(static_cast<double>(bytes));
}

// Under a launcher: of the rank that this process is.
void find_threads(Findings& found, const RankEnvironment& environment) {
  const bool is_started = environment.starter != Starter::kNone;
  found.ranks = ranks_of_host(environment, default_ranks({}));
  const CoreShare share = presumed_share(environment, found.ranks);
  try {
    const ThreadChoice choice = decided_threads({}, environment).value_or(threads_of_share(share));
    found.threads = line_on_threads(
        {}, choice, share, is_started ? cores_withheld_by_launcher(environment, share) : 0);
  } catch (const UsageError& error) {
    found.warnings.emplace_back(error.what());
  }
}

void warn_of_limits(Findings& found) {
  constexpr std::int64_t kFewFiles = 1024;
  const ProcessLimits& limits = found.limits;
  if (limits.open_files.value_or(kFewFiles) < kFewFiles) {
    found.warnings.push_back(
        fmt::format("at most {} open files: a rank has some for each rank of another host; "
                    "ulimit -n {}",
                    *limits.open_files, kFewFiles));
  }
  if (limits.address_space) {
    found.warnings.push_back(
        fmt::format("ulimit -v: a rank may map {} of memory, what it only reserves included",
                    size_of(*limits.address_space)));
  }
  if (limits.file_size) {
    found.warnings.push_back(
        fmt::format("ulimit -f: no model, checkpoint or log can be larger than {}",
                    size_of(*limits.file_size)));
  }
}

void warn_of_network(Findings& found) {
  const LocalNetwork& network = found.network;
  if (!network.loopback_trouble.empty()) {
    found.warnings.push_back(
        fmt::format("127.0.0.1 cannot be reached ({}): ranks that torchrun or Slurm starts need it",
                    network.loopback_trouble));
  }
  if (!network.name_trouble.empty()) {
    found.warnings.push_back(
        fmt::format("the name of this host, {}: {}; add it to /etc/hosts, or name this host's "
                    "address in communication.interface",
                    network.host_name, network.name_trouble));
  }
}

void warn_of_folder(Findings& found) {
  const FolderCheck& check = *found.folder;
  if (!check.trouble.empty()) {
    found.warnings.push_back(fmt::format("{}: {}", check.folder.string(), check.trouble));
  } else if (!check.has_locks) {
    found.warnings.push_back(
        fmt::format("{}: the file system has no locks, so that two runs may write one directory",
                    check.folder.string()));
  }
}

Findings find(const std::string& folder, const RankEnvironment& environment) {
  Findings found;
  find_threads(found, environment);
  if (!found.blas.advice().empty()) found.warnings.push_back(found.blas.advice());
  if (!found.machine.memfd_works) {
    found.warnings.emplace_back("memfd_create does not work here: ranks cannot share memory");
  }
  warn_of_limits(found);
  warn_of_network(found);
  if (!folder.empty()) {
    found.folder = check_folder(folder);
    warn_of_folder(found);
  }
  return found;
}

std::string text_of_caches(const Machine& machine) {
  std::vector<std::string> parts;
  for (const Cache& cache : machine.caches) {
    parts.push_back(fmt::format("L{} {}", cache.level, size_of(cache.bytes)));
  }
  return fmt::format("{}", fmt::join(parts, ", "));
}

std::string text_of_limits(const ProcessLimits& limits) {
  const auto text = [](const std::optional<std::int64_t>& limit, bool is_size) {
    return !limit ? "unlimited" : is_size ? size_of(*limit) : with_commas(*limit);
  };
  return fmt::format(
      "open files {}, processes {}, address space {}, file size {}, locked memory {}",
      text(limits.open_files, false), text(limits.processes, false),
      text(limits.address_space, true), text(limits.file_size, true),
      text(limits.locked_memory, true));
}

std::string text_of(const CgroupLimits& limits) {
  std::vector<std::string> parts;
  if (limits.cores > 0) {
    parts.push_back(fmt::format("{} core{}", limits.cores, limits.cores == 1 ? "" : "s"));
  }
  if (limits.memory_bytes > 0) parts.push_back(size_of(limits.memory_bytes) + " of memory");
  if (limits.processes > 0) parts.push_back(with_commas(limits.processes) + " processes");
  return parts.empty() ? "no limits" : fmt::format("{}", fmt::join(parts, ", "));
}

std::string text_of(const LocalNetwork& network) {
  return fmt::format(
      "{} is {}{}; 127.0.0.1 {}", network.host_name,
      network.addresses.empty() ? "unknown" : fmt::format("{}", fmt::join(network.addresses, ", ")),
      network.only_loopback ? " (for this host only)" : "",
      network.loopback_trouble.empty() ? "can be reached" : "cannot be reached");
}

std::string text_of(const std::vector<Launcher>& launchers) {
  std::vector<std::string> found, missing;
  for (const Launcher& one : launchers) {
    if (one.file.empty()) {
      missing.push_back(one.name);
    } else {
      found.push_back(fmt::format("{} ({})", one.name, one.file.string()));
    }
  }
  std::string text = fmt::format("{}", fmt::join(found, ", "));
  if (missing.empty()) return text;
  return fmt::format("{}{}not found: {}", text, text.empty() ? "" : "; ", fmt::join(missing, ", "));
}

std::string text_of(const FolderCheck& check) {
  if (!check.trouble.empty()) return check.folder.string() + ": no run can write here";
  return fmt::format(
      "{}: {}, {} free, a sync takes {:.1f} ms, files and folders can be renamed{}",
      check.folder.string(), check.file_system.empty() ? "unknown file system" : check.file_system,
      size_of(check.free_bytes), 1e3 * check.sync_seconds, check.has_locks ? ", locks work" : "");
}

void print_text(const Findings& found) {
  const Machine& machine = found.machine;
  const auto row = [](std::string_view name, const std::string& value) {
    std::cout << fmt::format("{:<12} {}\n", name, value);
  };
  row("processor", machine.cpu_model);
  row("cores", fmt::format("{} usable of {} ({} hardware threads), {} NUMA node{}", machine.usable,
                           machine.cores, machine.hardware_threads, machine.numa_nodes,
                           machine.numa_nodes == 1 ? "" : "s"));
  row("ranks", fmt::format("{} on this host", found.ranks));
  if (!found.threads.empty()) row("threads", found.threads);
  row("SIMD", fmt::format("{}", fmt::join(machine.simd_targets, ", ")));
  row("caches", text_of_caches(machine));
  row("memory", fmt::format("{}, {} available", size_of(machine.memory_bytes),
                            size_of(machine.available_memory_bytes)));
  row("huge pages", fmt::format("{}; shared memory: {}", machine.transparent_huge_pages,
                                machine.shared_memory_huge_pages));
  row("cgroups", text_of(machine.cgroups));
  row("limits", text_of_limits(found.limits));
  row("network", text_of(found.network));
  row("libtorch", TORCH_VERSION);
  row("BLAS", fmt::format("{} ({})", name_of(found.blas.kind), fmt::join(found.blas.paths, ", ")));
  row("backends", fmt::format("{}", fmt::join(backends(machine), ", ")));
  row("launchers", text_of(found.launchers));
  row("servers", server::zmq_library());
  if (found.folder) row("folder", text_of(*found.folder));
  if (!found.mpi_advice.empty()) row("MPI", found.mpi_advice);
  for (const std::string& warning : found.warnings) row("warning", warning);
}

nlohmann::ordered_json json_of(const std::optional<std::int64_t>& limit) {
  return limit ? nlohmann::ordered_json(*limit) : nlohmann::ordered_json(nullptr);
}

nlohmann::ordered_json json_of(const FolderCheck& check) {
  return {{"path", check.folder.string()},  {"file_system", check.file_system},
          {"free_bytes", check.free_bytes}, {"sync_seconds", check.sync_seconds},
          {"has_locks", check.has_locks},   {"trouble", check.trouble}};
}

void print_json(const Findings& found) {
  using Json = nlohmann::ordered_json;
  const Machine& machine = found.machine;
  Json caches = Json::array();
  for (const Cache& cache : machine.caches) {
    caches.push_back({{"level", cache.level}, {"bytes", cache.bytes}});
  }
  Json launchers = Json::object();
  for (const Launcher& one : found.launchers) launchers[one.name] = one.file.string();
  Json json = {{"processor", machine.cpu_model},
               {"cores", machine.cores},
               {"usable_cores", machine.usable},
               {"hardware_threads", machine.hardware_threads},
               {"numa_nodes", machine.numa_nodes},
               {"ranks", found.ranks},
               {"threads", found.threads},
               {"simd", machine.simd_targets},
               {"caches", caches},
               {"memory_bytes", machine.memory_bytes},
               {"available_memory_bytes", machine.available_memory_bytes},
               {"transparent_huge_pages", machine.transparent_huge_pages},
               {"cgroups",
                {{"cores", machine.cgroups.cores},
                 {"memory_bytes", machine.cgroups.memory_bytes},
                 {"processes", machine.cgroups.processes}}},
               {"limits",
                {{"open_files", json_of(found.limits.open_files)},
                 {"processes", json_of(found.limits.processes)},
                 {"address_space", json_of(found.limits.address_space)},
                 {"file_size", json_of(found.limits.file_size)},
                 {"locked_memory", json_of(found.limits.locked_memory)}}},
               {"network",
                {{"host_name", found.network.host_name},
                 {"addresses", found.network.addresses},
                 {"name_trouble", found.network.name_trouble},
                 {"loopback_trouble", found.network.loopback_trouble}}},
               {"libtorch", TORCH_VERSION},
               {"blas",
                {{"kind", name_of(found.blas.kind)},
                 {"paths", found.blas.paths},
                 {"advice", found.blas.advice()}}},
               {"backends", backends(machine)},
               {"launchers", launchers},
               {"mpi_advice", found.mpi_advice},
               {"servers", server::zmq_library()}};
  if (found.folder) json["folder"] = json_of(*found.folder);
  json["warnings"] = found.warnings;
  std::cout << json.dump(2) << '\n';
}

int run(const std::string& folder, bool json) {
  const RankEnvironment environment = read_environment();
  if (environment.rank > 0) return 0;  // rank 0 says it, once
  const Findings found = find(folder, environment);
  json ? print_json(found) : print_text(found);
  const bool is_bad = found.folder && !found.folder->trouble.empty();
  return static_cast<int>(is_bad ? ExitCode::kData : ExitCode::kOk);
}

}  // namespace

void add_doctor(CLI::App& app, int& exit_code) {
  auto json = std::make_shared<bool>(false);
  auto folder = std::make_shared<std::string>();
  CLI::App* command = app.add_subcommand("doctor", "Say what this machine offers for training");
  command->add_option("folder", *folder,
                      "where runs are to be written: try its file system with small files");
  command->add_flag("--json", *json, "as JSON");
  command->footer(
      "    trireme doctor /data/runs\n"
      "Under mpirun, srun or torchrun rank 0 alone answers, for the cores that it has been given.\n"
      "Exit code 3: no run can write in the folder.");
  command->callback([json, folder, &exit_code] { exit_code = run(*folder, *json); });
}

}  // namespace trireme::cli
