#pragma once

#include <cstdint>
#include <span>

#include "trireme/data/loader.h"
#include "trireme/model/loss.h"
#include "trireme/model/model.h"
#include "trireme/parallel/strategy.h"
#include "trireme/plan/schedule.h"

namespace trireme {

/// Executes the stage of a schedule, the forward and backward passes of a step, for a model, a loss
/// and a strategy:
///
///     runner.run(batches, plan::single_stage(micro_batches), false);
///     strategy.reduce_gradients();
///     strategy.update(optimizer);
///
/// The samples of a virtual worker are one micro-batch. A runner whose schedule has several stages
/// will compute the blocks of its own stage, Model::forward(x, range), and exchange activations
/// and gradients with the ranks of its neighbors along the pipeline axis of the mesh; the loss then
/// belongs to the last stage.
///
/// All of them must outlive the runner. One thread may use it.
class StepRunner {
 public:
  /// `seed`: of the model's random numbers.
  StepRunner(Model& model, const Loss& loss, Strategy& strategy, std::uint64_t seed);

  /// Begins a step and computes its forward and backward passes: one micro-batch for each batch of
  /// `step`, in the order of `schedule`, of which this rank is stage 0. `request_stop`: this rank
  /// asks all ranks to stop after a common step. `loss_scale`: StepShape::loss_scale. Throws
  /// UsageError if a loss counts another weight than its batch.
  void run(const StepBatches& step, const plan::Schedule& schedule, bool request_stop,
           double loss_scale = 1);

 private:
  LossSum forward(const StepBatches& step, int micro_batch);

  Model& model_;
  const Loss& loss_;
  Strategy& strategy_;
  std::uint64_t seed_;
};

}  // namespace trireme
