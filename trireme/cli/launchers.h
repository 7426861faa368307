#pragma once

#include <filesystem>
#include <span>
#include <string>
#include <vector>

namespace trireme::cli {

/// A program that starts ranks.
struct Launcher {
  std::string name;            ///< "mpirun"
  std::filesystem::path file;  ///< of the program in PATH, links followed; empty: not found
};

/// mpirun, mpiexec.mpich, srun and torchrun.
std::vector<Launcher> find_launchers();

/// Returns what must be done so that mpirun starts the ranks of this trireme; empty if nothing.
/// `library`: mpi::library().
std::string advice_on_mpi(const std::string& library, std::span<const Launcher> launchers);

}  // namespace trireme::cli
