#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "trireme/comm/communicator.h"
#include "trireme/config/config.h"
#include "trireme/plan/learning_rate.h"
#include "trireme/plan/run_plan.h"
#include "trireme/train/trainer.h"

namespace trireme {

struct RangeTestOptions {
  plan::LearningRateRange range;
  int repeats = 3;  ///< each on other data, and with other random numbers
  /// Called after each step on every rank: the repeat, counted from 0, its step, counted from 1,
  /// the step's rate and its loss, NaN if it was not finite.
  std::function<void(int repeat, std::int64_t step, double lr, double loss)> on_step = {};
};

/// Runs learning-rate range tests (Smith 2017) from where `trainer` is, and then gives it back
/// every bit that it had (StateSnapshot): nothing shows that there was a test. Each repeat begins
/// with the trainer's values; its data is that of the steps that follow those of the repeat before,
/// from the beginning again where the run is too short for that.
///
///     const auto curves = range_test(trainer, {.range = {.from = 1e-6, .to = 1}});
///     const auto found = plan::suggest_learning_rate(curves);
///
/// Collective. Returns the curve of each repeat, the same on all ranks, with the same bits at every
/// number of ranks (docs/numerics.md). A rank whose loss or gradient is not finite ends the repeat
/// on all ranks after the same step. Takes memory for a copy of this rank's state.
/// Throws UsageError if ranks train without each other (find_learning_rate_curves() builds trainers
/// of its own for them), if a repeat has more steps than the run, or for an impossible range. After
/// an error inside a step the trainer is not restored and must not be used.
std::vector<plan::LossCurve> range_test(Trainer& trainer, const RangeTestOptions& options = {});

/// range_test() of what `config` trains, from its first step on. `plan`: of `config` for the ranks
/// of `world`. Works in every mode: where ranks train without each other a trainer is built for
/// each repeat. Of groups that synchronize now and then the loss is the mean of the groups', and
/// they end together; where no rank may wait (asynchronous, bounded staleness, backup workers) each
/// ends for itself, and the curves of rank 0's group count, which are those of no other run.
///
/// Collective. Writes no file. Throws UsageError if servers of another process hold the parameters,
/// which would keep what they are taught; DataError or CommError.
std::vector<plan::LossCurve> find_learning_rate_curves(const Config& config,
                                                       const plan::RunPlan& plan,
                                                       Communicator& world,
                                                       const RangeTestOptions& options = {});

/// Throws UsageError if servers of another process hold the parameters of a run of this plan.
void require_own_servers(const plan::RunPlan& plan);

}  // namespace trireme
