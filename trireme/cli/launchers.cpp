#include "trireme/cli/launchers.h"

#include <fmt/format.h>

#include <algorithm>

#include "trireme/comm/mpi/mpi.h"
#include "trireme/launch/search_path.h"

namespace trireme::cli {

namespace {

bool has(const std::string& text, const char* part) {
  return text.find(part) != std::string::npos;
}

// By the file behind the links of Debian's alternatives; empty if it is of neither.
std::string mpi_of(const std::filesystem::path& mpirun) {
  const std::string name = mpirun.filename().string();
  if (has(name, "orterun") || has(name, "prterun") || has(name, "openmpi")) return "Open MPI";
  if (has(name, "hydra") || has(name, "mpich")) return "MPICH";
  return "";
}

}  // namespace

std::vector<Launcher> find_launchers() {
  std::vector<Launcher> launchers;
  for (const char* name : {"mpirun", "mpiexec.mpich", "srun", "torchrun"}) {
    launchers.push_back({name, find_program(name)});
  }
  return launchers;
}

std::string advice_on_mpi(const std::string& library, std::span<const Launcher> launchers) {
  if (library.empty()) return "this trireme was built without MPI: " + mpi::how_to_get();
  const auto mpirun = std::ranges::find(launchers, "mpirun", &Launcher::name);
  const bool is_mpich = library.starts_with("MPICH");
  if (mpirun == launchers.end() || mpirun->file.empty()) {
    return fmt::format("this trireme has {}, and there is no mpirun in PATH: apt-get install {}",
                       library, is_mpich ? "mpich" : "openmpi-bin");
  }
  const std::string other = mpi_of(mpirun->file);
  if (other.empty() || library.starts_with(other)) return "";
  return fmt::format(
      "mpirun is that of {} ({}), and this trireme has {}: call mpirun.{}, or choose the MPI of "
      "the build by -DMPI_CXX_COMPILER=mpicxx.{}",
      other, mpirun->file.string(), library, is_mpich ? "mpich" : "openmpi",
      is_mpich ? "openmpi" : "mpich");
}

}  // namespace trireme::cli
