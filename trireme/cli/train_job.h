#pragma once

#include <cstdint>
#include <exception>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "trireme/base/file_descriptor.h"
#include "trireme/cli/terminal.h"
#include "trireme/comm/communicator.h"
#include "trireme/config/config.h"
#include "trireme/launch/environment.h"
#include "trireme/launch/threads.h"
#include "trireme/plan/run_plan.h"
#include "trireme/train/run_directory.h"
#include "trireme/train/run_lock.h"

namespace trireme::cli {

/// The words and flags of `trireme train`.
struct TrainArguments {
  std::vector<std::string> words;  // FILE.toml and section.key=value
  int ranks = 0;
  std::string resume;                // RUN, RUN/checkpoints/step-N or "auto"
  std::optional<std::int64_t> step;  // of the checkpoint to resume from
  std::string mirror;                // of a run whose directory may have been lost
  bool allow_changed_data = false;
  bool overwrite = false;
  bool dry_run = false;
  bool json = false;
};

/// A training run as TrainArguments ask for it, checked.
struct Job {
  Config config;
  plan::RunPlan plan;
  int ranks = 1;
  std::optional<ThreadChoice> threads;  ///< none: the cores of each rank decide
  std::string banner;                   ///< on threads and cores (line_on_threads())
  bool resume = false;
  std::optional<std::int64_t> step;  ///< of the checkpoint to resume from; none: the newest
  /// Of the configuration of a run that is resumed: what the command line has changed.
  std::vector<std::string> changes;
  /// --resume auto: the run is complete, after so many steps, and there is nothing to do.
  std::optional<std::int64_t> complete_after;
  bool allow_changed_data = false;
  bool overwrite = false;
  bool json = false;
};

/// `environment` is that of this process, which a launcher may have started as a rank. With
/// `--resume auto`, returns the job of a new run (decided_job()).
Job job_of(const TrainArguments& arguments, const RankEnvironment& environment);

/// Decides ranks, threads and virtual workers of a job with a configuration, and its plan. `ranks`:
/// those asked for; 0: those of the launcher or, without one, one a core. `command`: for errors.
void plan_job(Job& job, const std::string& command, int ranks, const RankEnvironment& environment);

/// For ranks that trireme starts itself. Throws UsageError if the job needs another backend.
void require_shared_memory(const Job& job);

/// Locks the run directory of a job and, unless the job resumes a run, removes the logs of an
/// earlier one. Throws UsageError if the directory is in use, holds files that trireme has not
/// written, or holds a run that may not be overwritten, and DataError if it cannot be written.
std::unique_ptr<RunLock> claim_directory(const Job& job);

/// Opens the log of `rank` to append to it. Throws DataError if the run's directory cannot be
/// written.
FileDescriptor open_log(const RunDirectory& run, int rank);

/// Trains as one rank of `world`; the first rank shows progress on `terminal`. Returns the exit
/// code.
int train_as_rank(const Job& job, Communicator& world, const Terminal& terminal);

/// Returns true if a launcher started this process as a rank, also as the only one.
bool is_started_rank(const RankEnvironment& environment);

/// Connects the rank that a launcher has started. Both must outlive the world.
std::unique_ptr<Communicator> join_world(const Job& job, const RankEnvironment& environment,
                                         const Terminal& terminal);

/// Decides the threads of a started rank by its part of the cores that its launcher gives the ranks
/// of its host; with parallelism.pin it is bound to it.
void take_cores(Job& job, const RankEnvironment& environment, Communicator& world);

/// Trains as the rank that mpirun, srun, torchrun or Kubernetes started. All ranks must see the
/// same run directory, or each its own. With parallelism.pin each is bound to its part of the cores
/// that its launcher gives the ranks of its host. `arguments`: those of the job, for decided_job().
int train_as_started_rank(Job job, const TrainArguments& arguments,
                          const RankEnvironment& environment);

}  // namespace trireme::cli
