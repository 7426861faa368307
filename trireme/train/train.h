#pragma once

#include <cstdint>
#include <optional>

#include "trireme/base/clock.h"
#include "trireme/base/files.h"
#include "trireme/comm/communicator.h"
#include "trireme/config/config.h"
#include "trireme/plan/run_plan.h"
#include "trireme/train/report.h"

namespace trireme {

/// How train() begins.
struct TrainOptions {
  bool resume = false;
  /// Resume from the checkpoint of this step. None: from the newest that is whole.
  std::optional<std::int64_t> step = std::nullopt;
  /// Resume although the data is not what the run was trained on; otherwise that is a UsageError.
  bool allow_changed_data = false;
  /// The caller holds the RunLock of run.directory. Otherwise train() takes it.
  bool holds_lock = false;
  /// Measures training.max_time, which begins with the call. Must outlive it.
  const Clock* clock = &Clock::system();
};

/// Trains what `config` describes on the ranks of `world`. Collective.
///
/// Writes into config.run.directory: config.toml (resolved), metrics.jsonl, checkpoints/step-N/
/// and, at the end, model.safetensors. With `resume` a checkpoint there is loaded first and the run
/// goes on with the same bits as if it had never stopped. Once an observer asks for it or
/// training.max_time has passed on a rank, all ranks save a checkpoint after the same step and
/// stop. Where shares are to be measured, config.toml has what was found.
///
/// Throws UsageError, DataError, CommError or DivergedError; before the first step nothing is
/// written that was not there. Throws UsageError if another run uses the directory or if it holds
/// files that trireme has not written. Without `resume` an earlier run there is replaced: its files
/// are removed, and no others. A checkpoint or a line of metrics that cannot be written does not
/// end the run: observers are told, and RunSummary::is_complete says whether any is missing at the
/// end. `files`: where the run directory lies; ranks of one process share it.
RunSummary train(const Config& config, Communicator& world, Observer& observer,
                 const TrainOptions& options = {}, Files& files = real_files());

/// Returns plan::resolve(config, ranks), once everything is checked that needs neither the data nor
/// the ranks: also whether the files exist. Throws UsageError or DataError.
plan::RunPlan check(const Config& config, int ranks);

/// check(), and what needs the data: opens it and builds the model, as rank 0 of `ranks` would.
/// Writes nothing. Throws UsageError or DataError.
void dry_run(const Config& config, int ranks);

}  // namespace trireme
