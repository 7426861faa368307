#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "trireme/launch/rendezvous/job_secret.h"

namespace trireme {

/// What started this process.
enum class Starter : std::uint8_t {
  kNone,      ///< no launcher: a world of one
  kTorchrun,  ///< torchrun, a Kubernetes PyTorchJob, `trireme run`, a script that sets RANK
  kOpenMpi,   ///< mpirun of Open MPI
  kPmi,       ///< mpirun of MPICH or Intel MPI; srun --mpi=pmi2
  kSlurm,     ///< srun
};

/// The address where ranks on several hosts can meet without MPI: MASTER_ADDR and MASTER_PORT, or
/// under srun the first host of the step and a port that is derived from the numbers of job and
/// step.
struct MeetingPoint {
  std::string address;
  int port = 0;
  bool is_served = false;  ///< by torchrun's agent: TORCHELASTIC_USE_AGENT_STORE
  std::string attempt;     ///< TORCHELASTIC_RESTART_COUNT
};

/// Which rank this process is, according to the variables of its launcher.
struct RankEnvironment {
  int rank = 0;
  int world_size = 1;
  int local_rank = 0;
  std::optional<int> local_world_size;  ///< ranks of this host, if the launcher sets it
  std::optional<int> world_fd;          ///< of the shared world, if trireme's launcher made one
  Starter starter = Starter::kNone;
  bool speaks_pmix = false;             ///< PMIX_RANK is set: an MPI can join the ranks
  std::optional<MeetingPoint> meeting;  ///< if it is known
  std::string job;                      ///< id of the job; ranks of another one are kept out
  JobSecret secret;                     ///< if the job has one
  std::optional<std::chrono::milliseconds> timeout;  ///< for peers, if the launcher sets one
  std::string variables;  ///< the names that were read: "RANK, WORLD_SIZE"
  /// What a user should know of a world of one: that it is in a Slurm job whose tasks it does not
  /// use. Else empty.
  std::string note;
};

/// The value of an environment variable, if it is set.
using Lookup = std::function<std::optional<std::string>(const std::string& name)>;

std::optional<std::string> process_environment(const std::string& name);

/// Reads the first of these families whose rank is set:
///
///     RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE          torchrun, Kubernetes, `trireme run`
///     OMPI_COMM_WORLD_RANK, _SIZE, _LOCAL_RANK, _LOCAL_SIZE   Open MPI
///     PMI_RANK, PMI_SIZE, MPI_LOCALRANKID, MPI_LOCALNRANKS    MPICH, Intel MPI
///     SLURM_PROCID, SLURM_STEP_NUM_TASKS, SLURM_LOCALID       srun: SLURM_STEP_NODELIST is set
///
/// If no rank is set, the result is a world of one. The local rank is 0 if it is not set, as with
/// one rank in a pod. Slurm's variables count inside a step of srun alone, and its SLURM_NTASKS
/// only where SLURM_STEP_NUM_TASKS is not set: batch scripts and interactive shells of an
/// allocation (salloc) have them too, and a program that is started there is a world of one, with a
/// note.
///
/// TRIREME_WORLD_FD is read with the first family, a meeting point with all. The job's id is
/// TRIREME_JOB_ID, else TORCHELASTIC_RUN_ID, else the numbers of Slurm's job and step if srun has
/// started this process, else empty. The job's secret is TRIREME_JOB_SECRET, which `trireme run`
/// sets, else the text of the file TRIREME_JOB_SECRET_FILE. TRIREME_TIMEOUT: whole seconds. Throws
/// UsageError naming the variable and its value if it is missing, not a number, or out of range;
/// what JobSecret throws.
RankEnvironment read_environment(const Lookup& lookup = process_environment);

/// Where a launcher leaves the timeout of its ranks.
inline constexpr const char* kTimeoutVariable = "TRIREME_TIMEOUT";

/// Where a launcher leaves the secret for its ranks, in hexadecimal digits.
inline constexpr const char* kJobSecretVariable = "TRIREME_JOB_SECRET";

/// The secret that the environment names; none if it names none. Throws what JobSecret throws.
JobSecret read_job_secret(const Lookup& lookup = process_environment);

/// The first host of a Slurm node list: "node03" of "node[03-12,20],login1", "r0n2" of
/// "r[0-1]n[2-3]". Throws UsageError if a bracket is not closed.
std::string first_host(const std::string& node_list);

}  // namespace trireme
