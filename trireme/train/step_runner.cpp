#include "trireme/train/step_runner.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <chrono>
#include <vector>

#include "trireme/base/error.h"

namespace trireme {

StepRunner::StepRunner(Model& model, const Loss& loss, Strategy& strategy, std::uint64_t seed,
                       int virtual_workers)
    : model_(model),
      loss_(loss),
      strategy_(strategy),
      seed_(seed),
      virtual_workers_(virtual_workers) {}

void StepRunner::run(const StepBatches& step, const plan::Schedule& schedule, bool request_stop) {
  if (request_stop) strategy_.raise_flag();
  strategy_.begin(static_cast<int>(step.batches.size()));
  std::vector<LossSum> losses(step.batches.size());
  for (const plan::Action& action : schedule.stages.front()) {
    LossSum& loss = losses.at(static_cast<std::size_t>(action.micro_batch));
    switch (action.kind) {
      case plan::Action::Kind::kForward:
        loss = forward(step, action.micro_batch);
        break;
      case plan::Action::Kind::kBackward:
        backward(loss, step.weight);
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
  LossSum loss = loss_(model_.forward(batch.input), batch.target);
  if (loss.weight != batch.weight) {
    throw UsageError(
        fmt::format("step {}: the loss must count what its batch weighs, {}, got {}; the dataset's "
                    "weights must be those of its targets",
                    step.step, batch.weight, loss.weight));
  }
  return loss;
}

// The strategy takes the mean over the virtual workers: of these it is the sum over the step's
// weight.
void StepRunner::backward(const LossSum& loss, double weight_of_step) {
  const double scale = virtual_workers_ / weight_of_step;
  strategy_.add_loss(loss.sum.item<double>() * scale);
  loss.sum.backward(at::full_like(loss.sum, scale));
}

double StepRunner::reduce_gradients() {
  strategy_.reduce_gradients();
  return strategy_.loss();
}

StepResult StepRunner::update(Optimizer& optimizer, Sync sync) {
  strategy_.update(optimizer);
  const auto updated = std::chrono::steady_clock::now();
  if (sync == Sync::kNow) strategy_.ask_to_be_in_step();
  if (sync == Sync::kIfFree) strategy_.wait_to_be_in_step();
  strategy_.publish_parameters();
  const auto published = std::chrono::steady_clock::now();
  publish_seconds_ = std::chrono::duration<double>(published - updated).count();
  return {.loss = strategy_.loss(),
          .stop = strategy_.flag_raised(),
          .synchronized = strategy_.is_in_step(),
          .skipped_steps = strategy_.missed_steps()};
}

bool StepRunner::synchronize() {
  strategy_.ask_to_be_in_step();
  strategy_.publish_parameters();
  return strategy_.is_in_step();
}

void StepRunner::communicate() {
  strategy_.begin(0);
  strategy_.reduce_gradients();
  strategy_.publish_parameters();
}

}  // namespace trireme
