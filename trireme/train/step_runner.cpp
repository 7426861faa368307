#include "trireme/train/step_runner.h"

#include <fmt/format.h>

#include <vector>

#include "trireme/base/error.h"

namespace trireme {

StepRunner::StepRunner(Model& model, const Loss& loss, Strategy& strategy, std::uint64_t seed)
    : model_(model), loss_(loss), strategy_(strategy), seed_(seed) {}

void StepRunner::run(const StepBatches& step, const plan::Schedule& schedule, bool request_stop,
                     double loss_scale) {
  GradientSink& sink = strategy_.begin({.passes = static_cast<int>(step.batches.size()),
                                        .weight = step.weight,
                                        .loss_scale = loss_scale,
                                        .request_stop = request_stop});
  std::vector<LossSum> losses(step.batches.size());
  for (const plan::Action& action : schedule.stages.front()) {
    LossSum& loss = losses.at(static_cast<std::size_t>(action.micro_batch));
    // Passes of several micro-batches may alternate, and each changes the model's buffers.
    sink.set_micro_batch(action.micro_batch);
    switch (action.kind) {
      case plan::Action::Kind::kForward:
        loss = forward(step, action.micro_batch);
        break;
      case plan::Action::Kind::kBackward:
        strategy_.backward(loss.sum);
        loss = {};  // frees the graph
        break;
    }
  }
}

LossSum StepRunner::forward(const StepBatches& step, int micro_batch) {
  const auto i = static_cast<std::size_t>(micro_batch);
  const Batch& batch = step.batches[i];
  // The key names the virtual worker and not the rank: the same numbers on any number of ranks.
  model_.set_random_key(
      RandomKey{.seed = seed_, .step = step.step, .virtual_worker = step.virtual_workers[i]});
  LossSum loss = model_.loss(batch, loss_);
  if (loss.weight != batch.weight) {
    throw UsageError(
        fmt::format("step {}: the loss must count what its batch weighs, {}, got {}; the dataset's "
                    "weights must be those of its targets",
                    step.step, batch.weight, loss.weight));
  }
  return loss;
}

}  // namespace trireme
