#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "trireme/checkpoint/run_state.h"
#include "trireme/cli/train_job.h"
#include "trireme/comm/communicator.h"
#include "trireme/config/config.h"
#include "trireme/launch/environment.h"
#include "trireme/train/run_directory.h"

namespace trireme::cli {

/// `--resume auto`
inline constexpr std::string_view kAuto = "auto";

/// A run and the step of its checkpoint that `--resume` and `--step` name.
struct ResumedRun {
  RunDirectory directory;
  std::optional<std::int64_t> step;  ///< none: the newest
  std::filesystem::path mirror;      ///< its checkpoint.mirror; empty: none is known
};

/// Throws UsageError if both options name a step and the steps differ.
ResumedRun resumed_run(const TrainArguments& arguments);

/// Returns the configuration of the run: that of its directory or, if this has been lost, that of
/// the newest checkpoint in the mirror. Throws DataError if there is none, and what
/// read_run_config() throws.
Config config_of_run(const ResumedRun& run, const std::vector<std::string>& overrides);

/// Returns the state in the checkpoint to resume from or, without a step, in the newest that can be
/// read; if the run's directory has none, of those in the mirror. Returns nothing if one of several
/// hosts lacks it: which do so, the ranks find out together. Throws UsageError if there is no such
/// checkpoint.
std::optional<RunState> state_to_resume(const ResumedRun& run, bool is_one_of_several);

/// Throws UsageError unless `config`, read from the run's config.toml, is what the checkpoint was
/// trained with: the file may have been changed since, by hand or by a torn copy. Returns what the
/// command line has changed, a sentence each.
std::vector<std::string> require_config_of(const RunState& state, const Config& config,
                                           const RunDirectory& run);

/// Returns the job for `--resume auto`. `job`: of the same arguments, for a new run. If its
/// directory or its mirror holds a run with a checkpoint, that run is resumed as `--resume` does
/// it, or, once it is complete, Job::complete_after is set; values of the configuration file that
/// the run does not have are among Job::changes.
Job decided_job(const Job& job, const TrainArguments& arguments,
                const RankEnvironment& environment);

/// The same on ranks that a launcher has started: rank 0 decides what is done. Collective.
Job decided_job(const Job& job, const TrainArguments& arguments, const RankEnvironment& environment,
                Communicator& world);

/// The result of a run that was complete before, for people or as JSON.
std::string complete_text(const Job& job);

}  // namespace trireme::cli
