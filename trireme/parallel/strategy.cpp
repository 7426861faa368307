#include "trireme/parallel/strategy.h"

#include <fmt/format.h>
#include <torch/optim/optimizer.h>

#include <algorithm>
#include <functional>
#include <iterator>

#include "trireme/base/error.h"
#include "trireme/comm/call_scope.h"
#include "trireme/comm/communicator.h"
#include "trireme/model/model.h"
#include "trireme/model/module_block.h"
#include "trireme/parallel/checked_step.h"

namespace trireme {

Strategy::Strategy(Traits traits)
    : traits_(std::move(traits)), step_(std::make_unique<CheckedStep>(traits_.name)) {}

Strategy::~Strategy() = default;

std::span<Shard> Strategy::attach(Model& model, SourceLocation where) {
  const CallScope scope("attach", where);
  step_->require_unattached();
  step_->require_free(model.tensors().parameters);
  shards_ = attach_model(model);
  model.end_deferring();
  step_->attach(model.tensors().parameters);
  model_ = &model;
  return shards_;
}

std::span<Shard> Strategy::attach(torch::nn::Module& module, SourceLocation where) {
  step_->require_unattached();
  model_of_module_ = model_over(module);
  return attach(*model_of_module_, where);
}

Model& Strategy::model() const {
  step_->require_attached("model");
  return *model_;
}

std::span<Shard> Strategy::shards() const {
  step_->require_attached("shards");
  return shards_;
}

std::vector<NamedTensor> Strategy::fixed_tensors() const {
  step_->require_attached("fixed_tensors");
  std::vector<NamedTensor> tensors = step_->fixed_parameters();
  std::ranges::move(model_->tensors().buffers, std::back_inserter(tensors));
  return tensors;
}

GradientSink& Strategy::begin(StepShape shape, SourceLocation where) {
  const CallScope scope("begin", where);
  shape.passes = step_->check_begin(shape, virtual_workers().size());
  shape.changed_values = step_->accept_changes();
  step_->begin(begin_step(shape), shape.passes, shape.loss_scale);
  return *step_;
}

void Strategy::backward(const at::Tensor& loss_sum, SourceLocation where) {
  const CallScope scope("backward", where);
  step_->backward(loss_sum);
}

GradientReport Strategy::reduce_gradients(SourceLocation where) {
  const CallScope scope("reduce_gradients", where);
  step_->begin_reduce();
  const GradientReport report = finish_gradients();
  step_->end_backward(report);
  return report;
}

double Strategy::gradient_norm(SourceLocation where) {
  const CallScope scope("gradient_norm", where);
  step_->check_reduced("gradient_norm");
  return compute_gradient_norm();
}

StepResult Strategy::update(Optimizer& optimizer, Sync sync, SourceLocation where) {
  const CallScope scope("update", where);
  step_->check_update();
  require_own("update", optimizer);
  return finish({.optimizer = &optimizer, .sync = sync});
}

StepResult Strategy::update(torch::optim::Optimizer& optimizer, Sync sync, SourceLocation where) {
  const CallScope scope("update", where);
  step_->check_update();
  require_sets_grad("update");
  optimizer.step();
  return finish({.sync = sync});
}

StepResult Strategy::skip_update(Optimizer& optimizer, Sync sync, SourceLocation where) {
  const CallScope scope("skip_update", where);
  step_->check_reduced("skip_update");
  require_own("skip_update", optimizer);
  return finish({.optimizer = &optimizer, .is_skipped = true, .sync = sync});
}

StepResult Strategy::skip_update(torch::optim::Optimizer&, Sync sync, SourceLocation where) {
  const CallScope scope("skip_update", where);
  step_->check_reduced("skip_update");
  require_sets_grad("skip_update");
  return finish({.is_skipped = true, .sync = sync});
}

std::vector<Strategy::State> Strategy::state() {
  require_attached("state");
  return own_state();
}

std::vector<StateTensor> Strategy::parameters_to_load() const {
  std::vector<StateTensor> parameters;
  if (!traits_.copies_parameters) {
    for (const Shard& shard : shards()) parameters.push_back(shard.state());
    return parameters;
  }
  for (const auto& [name, tensor] : step_->trained_parameters()) {
    parameters.push_back(
        {.name = name, .region = Region(tensor.sizes().vec()), .values = host_buffer_of(tensor)});
  }
  return parameters;
}

Traffic Strategy::traffic() const {
  Traffic sum;
  for (const Communicator* ranks : own_communicators_) sum = sum + ranks->traffic();
  return sum;
}

void Strategy::set_holds_no_parameters() {
  traits_.holds_parameters = false;
  step_->refuse_loaded_values();
}

void Strategy::require_attached(const char* call) const {
  step_->require_attached(call);
}

void Strategy::require_between_steps(const char* call) const {
  step_->require_between_steps(call);
}

void Strategy::require_sets_grad(const char* call) const {
  if (traits_.sets_grad) return;
  throw UsageError(fmt::format(
      "strategy {}: {}() was given an optimizer of libtorch, which would find no grad() to use; "
      "make one of trireme's optimizers from the shards that attach() returns",
      traits_.name, call));
}

// Other shards would be updated by gradients of another step, and those of this model not at all.
void Strategy::require_own(const char* call, const Optimizer& optimizer) const {
  const std::less<const Shard*> before;
  const Shard* const first = shards_.data();
  const auto is_own = [&](const Shard& shard) {
    return !before(&shard, first) && before(&shard, first + shards_.size());
  };
  const std::span<const Shard> shards = optimizer.shards();
  if (shards.empty() ? shards_.empty() : is_own(shards.front()) && is_own(shards.back())) {
    return;
  }
  throw UsageError(
      fmt::format("strategy {}: {}() was given an optimizer that was not made from the shards "
                  "which attach() of "
                  "this strategy returns; make the optimizer from those",
                  traits_.name, call));
}

StepResult Strategy::finish(const StepEnd& end) {
  const StepResult result = finish_step(end);
  step_->end();
  return result;
}

// What the other ranks have announced is taken, whatever it is: it will not be used.
void Strategy::end_exchange() {
  step_->fail();
  try {
    step_->end_backward(finish_gradients());
  } catch (const UsageError&) {
    // The ranks' steps differ, or the communicator is over and the next step says so.
  }
}

void Strategy::abandon_step(SourceLocation where) {
  const CallScope scope("abandon_step", where);
  if (step_->in_backward()) end_exchange();
  step_->abandon();
}

}  // namespace trireme
