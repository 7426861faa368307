#include "trireme/parallel/replicated.h"

#include <optional>

#include "trireme/model/model.h"
#include "trireme/parallel/gradients/whole_gradients.h"
#include "trireme/parallel/synchronize.h"

namespace trireme {

namespace {

class Replicated final : public Strategy {
 public:
  Replicated(Communicator& world, StrategyOptions options)
      : Strategy({.name = "replicated", .sets_grad = true, .whole_shards = true}),
        world_(world),
        options_(std::move(options)),
        tree_(tree_of(options_, world.size())) {
    check(options_.compression);
  }

  Range virtual_workers() const override { return tree_.virtual_workers_of(world_.rank()); }

 private:
  std::span<Shard> attach_model(Model& model) override {
    broadcast_from_first_rank(world_, model);
    const NamedTensors tensors = model.tensors();
    gradients_.emplace(world_, tensors, options_);
    return gradients_->shards();
  }

  GradientSink& begin_step(const StepShape& shape) override {
    return gradients_->begin(shape, shape.weight > 0 ? shape.weight : tree_.virtual_workers());
  }

  GradientReport finish_gradients() override { return report_ = gradients_->reduce(); }
  double compute_gradient_norm() override { return gradients_->norm(); }
  std::vector<State> own_state() override { return gradients_->state(); }

  StepResult finish_step(const StepEnd& end) override {
    if (end.optimizer != nullptr && !end.is_skipped) end.optimizer->step();
    gradients_->end_step(end.is_skipped);
    return {.loss = report_.loss, .stop = gradients_->stop()};
  }

  Communicator& world_;
  StrategyOptions options_;
  ReductionTree tree_;
  std::optional<WholeGradients> gradients_;
  GradientReport report_;
};

}  // namespace

std::unique_ptr<Strategy> replicated(Communicator& world, StrategyOptions options) {
  return std::make_unique<Replicated>(world, std::move(options));
}

}  // namespace trireme
