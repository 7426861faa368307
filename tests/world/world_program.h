#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "tests/world/child.h"

namespace trireme::test {

using Command = std::vector<std::string>;

/// The commands that start tests/world/program/world_program.cpp, by itself and by others.
Command world_program(const Command& arguments);
Command by_trireme_run(int ranks, const Command& program);
Command by_mpirun(int ranks, const Command& program);

/// The program trireme, and mpirun of the MPI that it was built with.
std::filesystem::path trireme_program();
std::filesystem::path mpirun_program();

/// What mpirun must see to start more ranks than cores, as root.
Variables mpirun_variables();

/// The templates for clusters.
std::filesystem::path deploy_folder();

/// torchrun's variables for one rank.
Variables torchrun_variables(int rank, int world_size, const std::string& address, int port);

/// How world_program's task `sum` ends its line on each of `ranks` ranks: "sum of ranks
/// 0123456789abcdef, of virtual workers 0123456789abcdef".
std::string expected_sums(int ranks);

}  // namespace trireme::test
