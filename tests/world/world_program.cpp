#include "tests/world/world_program.h"

#include <fmt/format.h>

#include "tests/world/program/contributions.h"

namespace trireme::test {

namespace {

Command joined(Command command, const Command& more) {
  command.insert(command.end(), more.begin(), more.end());
  return command;
}

}  // namespace

Command world_program(const Command& arguments) {
  return joined({TRIREME_WORLD_PROGRAM}, arguments);
}

Command by_trireme_run(int ranks, const Command& program) {
  return joined({TRIREME_PROGRAM, "run", "-n", std::to_string(ranks)}, program);
}

Command by_mpirun(int ranks, const Command& program) {
  return joined({TRIREME_MPIEXEC, "-n", std::to_string(ranks)}, program);
}

std::filesystem::path trireme_program() {
  return TRIREME_PROGRAM;
}

std::filesystem::path mpirun_program() {
  return TRIREME_MPIEXEC;
}

// MPICH needs no telling.
Variables mpirun_variables() {
  return {{"OMPI_ALLOW_RUN_AS_ROOT", "1"},
          {"OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1"},
          {"OMPI_MCA_rmaps_base_oversubscribe", "1"},
          {"OMPI_MCA_hwloc_base_binding_policy", "none"},
          // Open MPI 5
          {"PRTE_MCA_rmaps_default_mapping_policy", ":oversubscribe"},
          {"PRTE_MCA_hwloc_default_binding_policy", "none"}};
}

std::filesystem::path deploy_folder() {
  return TRIREME_DEPLOY;
}

Variables torchrun_variables(int rank, int world_size, const std::string& address, int port) {
  return {{"RANK", std::to_string(rank)},
          {"WORLD_SIZE", std::to_string(world_size)},
          {"MASTER_ADDR", address},
          {"MASTER_PORT", std::to_string(port)}};
}

std::string expected_sums(int ranks) {
  return fmt::format("sum of ranks {:016x}, of virtual workers {:016x}",
                     checksum(sum_of_contributions(0, ranks)),
                     checksum(sum_of_contributions(0, kVirtualWorkers)));
}

}  // namespace trireme::test
