#include <ATen/Version.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <torch/version.h>

#include <iostream>
#include <nlohmann/json.hpp>

#include "trireme/cli/commands.h"
#include "trireme/cli/terminal.h"
#include "trireme/launch/blas.h"
#include "trireme/launch/machine.h"
#include "trireme/server/zmq/library.h"
#include "trireme/world/connect.h"

namespace trireme::cli {

namespace {

std::string caches(const Machine& machine) {
  std::vector<std::string> parts;
  for (const Cache& cache : machine.caches) {
    parts.push_back(
        fmt::format("L{} {}", cache.level, memory_size(static_cast<double>(cache.bytes))));
  }
  return fmt::format("{}", fmt::join(parts, ", "));
}

// Without memfd the ranks of a host cannot share memory.
std::vector<std::string> backends(const Machine& machine) {
  std::vector<std::string> all = available_backends();
  if (!machine.memfd_works) std::erase(all, "shm");
  return all;
}

void print_text(const Machine& machine, const Blas& blas) {
  const auto row = [](std::string_view name, const std::string& value) {
    std::cout << fmt::format("{:<12} {}\n", name, value);
  };
  row("processor", machine.cpu_model);
  row("cores", fmt::format("{} usable of {} ({} hardware threads), {} NUMA node{}", machine.usable,
                           machine.cores, machine.hardware_threads, machine.numa_nodes,
                           machine.numa_nodes == 1 ? "" : "s"));
  row("SIMD", fmt::format("{}", fmt::join(machine.simd_targets, ", ")));
  row("caches", caches(machine));
  row("memory",
      fmt::format("{}, {} available", memory_size(static_cast<double>(machine.memory_bytes)),
                  memory_size(static_cast<double>(machine.available_memory_bytes))));
  row("huge pages", fmt::format("{}; shared memory: {}", machine.transparent_huge_pages,
                                machine.shared_memory_huge_pages));
  row("libtorch", TORCH_VERSION);
  row("BLAS", fmt::format("{} ({})", name_of(blas.kind), fmt::join(blas.paths, ", ")));
  row("backends", fmt::format("{}", fmt::join(backends(machine), ", ")));
  row("servers", server::zmq_library());
  if (!blas.advice().empty()) row("warning", blas.advice());
  if (!machine.memfd_works) {
    row("warning", "memfd_create does not work here: ranks cannot share memory");
  }
}

void print_json(const Machine& machine, const Blas& blas) {
  nlohmann::ordered_json caches = nlohmann::ordered_json::array();
  for (const Cache& cache : machine.caches) {
    caches.push_back({{"level", cache.level}, {"bytes", cache.bytes}});
  }
  const nlohmann::ordered_json json = {
      {"processor", machine.cpu_model},
      {"cores", machine.cores},
      {"usable_cores", machine.usable},
      {"hardware_threads", machine.hardware_threads},
      {"numa_nodes", machine.numa_nodes},
      {"simd", machine.simd_targets},
      {"caches", caches},
      {"memory_bytes", machine.memory_bytes},
      {"available_memory_bytes", machine.available_memory_bytes},
      {"transparent_huge_pages", machine.transparent_huge_pages},
      {"libtorch", TORCH_VERSION},
      {"blas", {{"kind", name_of(blas.kind)}, {"paths", blas.paths}, {"advice", blas.advice()}}},
      {"backends", backends(machine)},
      {"servers", server::zmq_library()}};
  std::cout << json.dump(2) << '\n';
}

}  // namespace

void add_doctor(CLI::App& app, int& exit_code) {
  auto json = std::make_shared<bool>(false);
  CLI::App* command = app.add_subcommand("doctor", "Say what this machine offers for training");
  command->add_flag("--json", *json, "as JSON");
  command->callback([json, &exit_code] {
    const Machine machine = inspect_machine();
    const Blas blas = blas_of_process();
    *json ? print_json(machine, blas) : print_text(machine, blas);
    exit_code = 0;
  });
}

}  // namespace trireme::cli
