#pragma once

#include <exception>
#include <string>
#include <vector>

#include "trireme/base/file_descriptor.h"
#include "trireme/cli/terminal.h"
#include "trireme/comm/communicator.h"
#include "trireme/config/config.h"
#include "trireme/launch/environment.h"
#include "trireme/plan/run_plan.h"
#include "trireme/train/run_directory.h"

namespace trireme::cli {

/// The words and flags of `trireme train`.
struct TrainArguments {
  std::vector<std::string> words;  // FILE.toml and section.key=value
  int ranks = 0;
  std::string resume;
  bool overwrite = false;
  bool dry_run = false;
  bool json = false;
};

/// What they ask for.
struct Job {
  Config config;
  plan::RunPlan plan;
  int ranks = 1;
  bool resume = false;
  bool overwrite = false;
  bool json = false;
};

/// `environment`: of this process, which may be one of the ranks already.
Job job_of(const TrainArguments& arguments, const RankEnvironment& environment);

/// Refuses to mix two runs. With `overwrite` the rest of the earlier one goes away once the new one
/// begins.
void clear_directory(const Job& job);

/// The log of `rank`, to append to. Throws UsageError if the run's directory takes none.
FileDescriptor open_log(const RunDirectory& run, int rank);

/// One line, without the stack that libtorch puts below its messages.
std::string message_of(const std::exception& error);

/// Trains as one rank of `world`; shows progress on `terminal` if it is the first. Returns the exit
/// code.
int train_as_rank(const Job& job, Communicator& world, const Terminal& terminal);

/// The exit code for an error of a rank.
int exit_code_of_rank(const std::exception& error);

/// Has somebody else started this process as a rank, be it of a world of one?
bool is_started_rank(const RankEnvironment& environment);

/// Trains as the rank that mpirun, srun, torchrun or Kubernetes has started this process as. All
/// ranks see the same run directory, or each its own.
int train_as_started_rank(const Job& job, const RankEnvironment& environment);

}  // namespace trireme::cli
