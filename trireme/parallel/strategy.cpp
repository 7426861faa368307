#include "trireme/parallel/strategy.h"

#include <fmt/format.h>
#include <torch/optim/optimizer.h>

#include <algorithm>
#include <iterator>

#include "trireme/base/error.h"
#include "trireme/model/model.h"
#include "trireme/model/module_block.h"
#include "trireme/parallel/checked_step.h"

namespace trireme {

Strategy::Strategy(Traits traits)
    : traits_(std::move(traits)), step_(std::make_unique<CheckedStep>(traits_.name)) {}

Strategy::~Strategy() = default;

std::span<Shard> Strategy::attach(Model& model) {
  step_->require_unattached();
  step_->require_free(model.tensors().parameters);
  shards_ = attach_model(model);
  step_->attach(model.tensors().parameters);
  model_ = &model;
  return shards_;
}

std::span<Shard> Strategy::attach(torch::nn::Module& module) {
  step_->require_unattached();
  model_of_module_ = model_over(module);
  return attach(*model_of_module_);
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

GradientSink& Strategy::begin(StepShape shape) {
  shape.passes = step_->check_begin(shape.passes, virtual_workers().size(), shape.weight);
  shape.changed_values = step_->accept_changes();
  step_->begin(begin_step(shape), shape.passes);
  return *step_;
}

void Strategy::backward(const at::Tensor& loss_sum) {
  step_->backward(loss_sum);
}

GradientReport Strategy::reduce_gradients() {
  step_->check_reduce();
  const GradientReport report = finish_gradients();
  step_->end_backward(report);
  return report;
}

double Strategy::gradient_norm() {
  step_->check_reduced("gradient_norm");
  return compute_gradient_norm();
}

StepResult Strategy::update(Optimizer& optimizer, Sync sync) {
  step_->check_update();
  return finish({.optimizer = &optimizer, .sync = sync});
}

StepResult Strategy::update(torch::optim::Optimizer& optimizer, Sync sync) {
  step_->check_update();
  require_sets_grad("update");
  optimizer.step();
  return finish({.sync = sync});
}

StepResult Strategy::skip_update(Optimizer& optimizer, Sync sync) {
  step_->check_reduced("skip_update");
  return finish({.optimizer = &optimizer, .is_skipped = true, .sync = sync});
}

StepResult Strategy::skip_update(torch::optim::Optimizer&, Sync sync) {
  step_->check_reduced("skip_update");
  require_sets_grad("skip_update");
  return finish({.is_skipped = true, .sync = sync});
}

void Strategy::require_sets_grad(const char* call) const {
  if (traits_.sets_grad) return;
  throw UsageError(fmt::format(
      "strategy {}: {}() was given an optimizer of libtorch, which would find no grad() to use; "
      "make one of trireme's optimizers from the shards that attach() returns",
      traits_.name, call));
}

StepResult Strategy::finish(const StepEnd& end) {
  const StepResult result = finish_step(end);
  step_->end();
  return result;
}

void Strategy::abandon_step() {
  if (step_->in_backward()) finish_gradients();
  if (step_->is_attached()) step_->end();
}

}  // namespace trireme
