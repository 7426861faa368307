#pragma once

#include <cstdint>
#include <span>

#include "trireme/data/loader.h"
#include "trireme/model/loss.h"
#include "trireme/model/model.h"
#include "trireme/optim/optimizer.h"
#include "trireme/parallel/strategy.h"
#include "trireme/plan/schedule.h"

namespace trireme {

/// When the parameters of ranks that may differ are made equal.
enum class Sync : std::uint8_t { kWhenDue, kIfFree, kNow };

/// What a step has led to.
struct StepResult {
  double loss = 0;
  bool stop = false;               ///< a rank has requested to stop
  bool synchronized = true;        ///< all ranks now have the same parameters
  std::int64_t skipped_steps = 0;  ///< that the other ranks have made without this one
};

/// Executes the stage of a schedule for a model, a loss and a strategy, and makes all the calls of
/// a step to the strategy:
///
///     runner.run(batches, plan::single_stage(micro_batches), false);
///     const double loss = runner.reduce_gradients();
///     const StepResult result = runner.update(optimizer, Sync::kWhenDue);
///
/// The samples of a virtual worker are one micro-batch. A runner whose schedule has several stages
/// will compute the blocks of its own stage, Model::forward(x, range), and exchange activations
/// and gradients with the ranks of its neighbors along the pipeline axis of the mesh; the loss then
/// belongs to the last stage.
///
/// All of them must outlive the runner. One thread may use it.
class StepRunner {
 public:
  /// `seed`: of the model's random numbers. `virtual_workers`: of the whole step.
  StepRunner(Model& model, const Loss& loss, Strategy& strategy, std::uint64_t seed,
             int virtual_workers);

  /// Begins a step and computes its forward and backward passes: one micro-batch for each batch of
  /// `step`, in the order of `schedule`, of which this rank is stage 0. `request_stop`: this rank
  /// asks all ranks to stop after a common step. Throws UsageError if a loss counts another weight
  /// than its batch.
  void run(const StepBatches& step, const plan::Schedule& schedule, bool request_stop);

  /// Reduces the gradients and returns the mean loss over the weight of the step. Collective.
  double reduce_gradients();

  /// Updates the parameters with `optimizer` and publishes them. Collective.
  StepResult update(Optimizer& optimizer, Sync sync);

  /// The seconds that the last update() spent on publishing and not on updating.
  double publish_seconds() const { return publish_seconds_; }

  /// Makes all ranks' parameters equal outside of a step, for a rank that skips the last step.
  /// Returns true if they are. Collective unless ranks are asynchronous.
  bool synchronize();

  /// The communication of a step by itself, with gradients of zero. Collective.
  void communicate();

 private:
  LossSum forward(const StepBatches& step, int micro_batch);
  void backward(const LossSum& loss, double weight_of_step);

  Model& model_;
  const Loss& loss_;
  Strategy& strategy_;
  std::uint64_t seed_;
  int virtual_workers_;
  double publish_seconds_ = 0;
};

}  // namespace trireme
