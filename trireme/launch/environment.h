#pragma once

#include <functional>
#include <optional>
#include <string>

namespace trireme {

/// Which rank this process is, as told by whoever started it.
struct RankEnvironment {
  int rank = 0;
  int world_size = 1;
  int local_rank = 0;
  std::optional<int> local_world_size;  ///< ranks of this host, where the launcher says so
  std::optional<int> world_fd;          ///< of the shared world that trireme's own launcher made
  std::string variables;                ///< the names that were read, "RANK, WORLD_SIZE", or empty
};

/// The value of an environment variable, if it is set.
using Lookup = std::function<std::optional<std::string>(const std::string& name)>;

std::optional<std::string> process_environment(const std::string& name);

/// Reads the first of these families whose rank is set:
///
///     RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE          torchrun, Kubernetes, `trireme run`
///     OMPI_COMM_WORLD_RANK, _SIZE, _LOCAL_RANK, _LOCAL_SIZE   Open MPI
///     PMI_RANK, PMI_SIZE, MPI_LOCALRANKID, MPI_LOCALNRANKS    MPICH, Intel MPI
///     SLURM_PROCID, SLURM_NTASKS, SLURM_LOCALID               srun
///
/// With none it is a world of one. The local rank is 0 where it is not told (one rank a pod, say).
/// TRIREME_WORLD_FD is read with the first family. Throws UsageError naming the variable and its
/// value where one is missing, not a number, or out of range.
RankEnvironment read_environment(const Lookup& lookup = process_environment);

}  // namespace trireme
