#include "trireme/parallel/checked_step.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "trireme/base/error.h"
#include "trireme/base/text.h"
#include "trireme/tensor/fingerprint.h"

namespace trireme {

namespace {

template <class... Arguments>
[[noreturn]] void refuse(const std::string& strategy, fmt::format_string<Arguments...> format,
                         Arguments&&... arguments) {
  throw UsageError(fmt::format("strategy {}: {}", strategy,
                               fmt::format(format, std::forward<Arguments>(arguments)...)));
}

std::string described(const at::Tensor& tensor) {
  return fmt::format("{} [{}]", at::toString(tensor.scalar_type()),
                     fmt::join(tensor.sizes(), ", "));
}

}  // namespace

CheckedStep::CheckedStep(std::string strategy) : strategy_(std::move(strategy)) {}

void CheckedStep::require_unattached() const {
  if (phase_ == Phase::kUnattached) return;
  refuse(strategy_, "attach() was called twice; make a strategy for each model");
}

void CheckedStep::require_attached(const char* call) const {
  if (phase_ != Phase::kUnattached) return;
  refuse(strategy_, "{}() was called before attach(); call attach(model) once", call);
}

void CheckedStep::require_between_steps(const char* call) const {
  require_attached(call);
  if (phase_ == Phase::kReady) return;
  refuse(strategy_, "{}() was called inside a step; call it after update() or abandon_step()",
         call);
}

void CheckedStep::require_free(const std::vector<NamedTensor>& parameters) const {
  for (const auto& [name, tensor] : parameters) {
    if (!tensor.requires_grad() || !GradientHook::is_on(tensor)) continue;
    refuse(strategy_,
           "attach(): {} belongs to another strategy already; destroy that one first "
           "(strategy.reset()), or give this one a model of its own",
           name);
  }
}

void CheckedStep::attach(std::vector<NamedTensor> parameters) {
  parameters_ = std::move(parameters);
  for (std::size_t p = 0; p < parameters_.size(); ++p) {
    const at::Tensor& tensor = parameters_[p].second;
    homes_.push_back(tensor.detach());
    hooks_.emplace_back();
    if (tensor.requires_grad()) hook(p);
  }
  end();
}

void CheckedStep::hook(std::size_t p) {
  hooks_[p].emplace(parameters_[p].second, [this, p] { on_gradient(static_cast<int>(p)); });
}

void CheckedStep::end() {
  phase_ = Phase::kReady;
  last_version_ = version_of_parameters();
}

void CheckedStep::abandon() {
  // Whether all ranks have changed the parameters alike is then not known: the next step asks
  // again.
  if (phase_ == Phase::kFailed) phase_ = Phase::kReady;
  if (phase_ != Phase::kUnattached && phase_ != Phase::kReady) end();
}

double CheckedStep::accept_changes() {
  bool changed = version_of_parameters() != last_version_;
  for (std::size_t p = 0; p < parameters_.size(); ++p) {
    const auto& [name, tensor] = parameters_[p];
    if (tensor.requires_grad() && !hooks_[p]) {
      refuse(strategy_,
             "begin(): {} requires a gradient now and did not in attach(); attach a model with all "
             "parameters that will ever be trained, and freeze and unfreeze them after that",
             name);
    }
    if (tensor.sizes() != homes_[p].sizes() || tensor.scalar_type() != homes_[p].scalar_type()) {
      refuse(strategy_, "begin(): {} must stay {}, got {}; make a new strategy for another model",
             name, described(homes_[p]), described(tensor));
    }
    if (tensor.data_ptr() == homes_[p].data_ptr()) continue;
    if (!takes_loaded_values_) {
      refuse(strategy_,
             "begin(): {} was given other values, and its ranks hold parts of it alone; load a "
             "model before attach(), and checkpoints into shards()",
             name);
    }
    // torch::load() and set_data() bring memory of their own.
    changed = true;
    const at::NoGradGuard no_grad;
    homes_[p].copy_(tensor.detach());
    tensor.set_data(homes_[p]);
  }
  if (!changed) return 0;
  // They lose their hooks to set_data() and to().
  for (std::size_t p = 0; p < parameters_.size(); ++p) {
    const at::Tensor& tensor = parameters_[p].second;
    if (hooks_[p] && tensor.requires_grad() && !GradientHook::is_on(tensor)) hook(p);
  }
  return fingerprint_of(homes_);
}

std::vector<NamedTensor> CheckedStep::parameters_where_hooked(bool hooked) const {
  std::vector<NamedTensor> found;
  for (std::size_t p = 0; p < parameters_.size(); ++p) {
    if (hooks_[p].has_value() == hooked) found.push_back(parameters_[p]);
  }
  return found;
}

int CheckedStep::check_begin(const StepShape& shape, std::int64_t virtual_workers) const {
  switch (phase_) {
    case Phase::kUnattached:
      refuse(strategy_, "begin() was called before attach(); call attach(model) once");
    case Phase::kBackward:
      refuse(strategy_, "begin() was called twice without reduce_gradients() and update() between");
    case Phase::kReduced:
      refuse(strategy_,
             "begin() was called without update() after reduce_gradients(); call "
             "strategy->update(optimizer) in place of optimizer.step(), or abandon_step()");
    case Phase::kFailed:
      require_not_failed("begin");
    case Phase::kReady:
      break;
  }
  const auto most = static_cast<int>(virtual_workers);
  if (shape.passes < -1 || shape.passes > most) {
    refuse(strategy_, "begin() announces {}, more than this rank's {}",
           counted(shape.passes, "pass"), counted(most, "virtual worker"));
  }
  if (!std::isfinite(shape.weight) || shape.weight < 0) {
    refuse(strategy_, "the weight of a step must be a number above 0, got {}", shape.weight);
  }
  if (!std::isfinite(shape.loss_scale) || shape.loss_scale <= 0) {
    refuse(strategy_, "the loss scale of a step must be a number above 0, got {}",
           shape.loss_scale);
  }
  return shape.passes == -1 ? most : shape.passes;
}

void CheckedStep::begin(GradientSink& sink, int passes, double loss_scale) {
  for (const auto& [name, tensor] : parameters_) tensor.mutable_grad().reset();
  sink_ = &sink;
  passes_ = passes;
  loss_scale_ = loss_scale;
  active_ = kNone;
  begun_.assign(static_cast<std::size_t>(passes), 0);
  finished_.assign(static_cast<std::size_t>(passes), 0);
  next_.assign(parameters_.size(), 0);
  phase_ = Phase::kBackward;
}

int CheckedStep::next_pass() const {
  return static_cast<int>(std::ranges::find(finished_, 0) - finished_.begin());
}

void CheckedStep::require_not_failed(const char* call) const {
  if (phase_ != Phase::kFailed) return;
  refuse(strategy_,
         "{}() was called after reduce_gradients() has failed; call abandon_step() on every rank, "
         "and then begin()",
         call);
}

void CheckedStep::require_backward(const char* call) const {
  if (phase_ == Phase::kBackward) return;
  require_not_failed(call);
  refuse(strategy_, "{}() was called {}; call {} before the first forward pass of a step", call,
         phase_ == Phase::kUnattached ? "before attach()"
         : phase_ == Phase::kReduced  ? "after reduce_gradients()"
                                      : "before begin()",
         phase_ == Phase::kUnattached ? "attach(), and begin()" : "begin()");
}

void CheckedStep::require_micro_batch(const char* call, int micro_batch) const {
  require_backward(call);
  if (micro_batch < 0 || micro_batch >= passes_) {
    refuse(strategy_, "{}(): there is no micro-batch {} in a step of {}", call, micro_batch,
           counted(passes_, "pass"));
  }
  if (finished_[static_cast<std::size_t>(micro_batch)]) {
    refuse(strategy_, "{}(): micro-batch {} is finished", call, micro_batch);
  }
}

void CheckedStep::require_scalar(const at::Tensor& loss_sum) const {
  const char* const wanted = "backward() needs a scalar loss that depends on the parameters";
  if (!loss_sum.defined()) refuse(strategy_, "{}, got an undefined tensor", wanted);
  if (loss_sum.numel() != 1 || !loss_sum.requires_grad()) {
    refuse(
        strategy_, "{}, got {}{}", wanted, counted(loss_sum.numel(), "element"),
        loss_sum.requires_grad() ? "" : " without a gradient; leave out detach() and NoGradGuard");
  }
  if (!loss_sum.is_floating_point() || !loss_sum.device().is_cpu()) {
    refuse(strategy_, "{}, real and on the CPU, got {} on {}", wanted,
           at::toString(loss_sum.scalar_type()), loss_sum.device().str());
  }
}

void CheckedStep::backward(const at::Tensor& loss_sum) {
  require_backward("backward");
  const int micro_batch = next_pass();
  if (micro_batch == passes_) {
    refuse(strategy_, "backward() was called more often than begin() announced: {}",
           counted(passes_, "pass"));
  }
  require_scalar(loss_sum);
  active_ = micro_batch;
  try {
    (loss_scale_ == 1 ? loss_sum : loss_sum * loss_scale_).backward();
  } catch (...) {
    active_ = kNone;
    throw;
  }
  finish(micro_batch, loss_sum.item<double>());
}

// On the thread that runs backward, after autograd has set grad().
void CheckedStep::on_gradient(int parameter) {
  if (active_ == kNone) {
    if (phase_ == Phase::kBackward) {
      refuse(
          strategy_,
          "a backward pass came that no micro-batch was named for; call strategy->backward(loss) "
          "in place of loss.backward(), or set_micro_batch() before the pass");
    }
    require_backward("a backward pass: loss.backward");
  }
  at::Tensor& gradient = parameters_[static_cast<std::size_t>(parameter)].second.mutable_grad();
  // A block that is recomputed says of each parameter that it does not use that it has none.
  if (!gradient.defined()) return;
  add(parameter, active_, loss_scale_ == 1 ? gradient : gradient.mul(1 / loss_scale_));
  // Autograd hands over a fresh gradient next time, which is cheaper than adding to this one.
  gradient.reset();
}

void CheckedStep::add(int parameter, int micro_batch, const at::Tensor& gradient) {
  require_micro_batch("add", micro_batch);
  if (parameter < 0 || parameter >= static_cast<int>(parameters_.size())) {
    refuse(strategy_, "add(): there is no parameter {} in a model of {}", parameter,
           parameters_.size());
  }
  const auto& [name, tensor] = parameters_[static_cast<std::size_t>(parameter)];
  int& next = next_[static_cast<std::size_t>(parameter)];
  if (micro_batch < next) {
    refuse(strategy_,
           "add(): a gradient of {} for micro-batch {} came after one for micro-batch {}", name,
           micro_batch, next - 1);
  }
  if (!gradient.defined()) {
    refuse(strategy_, "add(): the gradient of {} must be a tensor, got an undefined one", name);
  }
  if (gradient.layout() != at::kStrided) {
    refuse(strategy_, "{} has a gradient of layout {}; all-reduce needs dense ones (sparse=false)",
           name, c10::str(gradient.layout()));
  }
  if (!tensor.requires_grad()) {
    refuse(strategy_, "add(): {} does not require a gradient, but got one", name);
  }
  if (gradient.sizes() != tensor.sizes() || gradient.scalar_type() != tensor.scalar_type()) {
    refuse(strategy_, "add(): the gradient of {} must be {}, got {}", name, described(tensor),
           described(gradient));
  }
  next = micro_batch + 1;
  begun_[static_cast<std::size_t>(micro_batch)] = 1;
  sink_->add(parameter, micro_batch, gradient);
}

void CheckedStep::finish(int micro_batch, double loss_sum) {
  require_micro_batch("finish", micro_batch);
  finished_[static_cast<std::size_t>(micro_batch)] = 1;
  if (active_ == micro_batch) active_ = kNone;
  sink_->finish(micro_batch, loss_sum);
}

void CheckedStep::set_micro_batch(int micro_batch) {
  require_micro_batch("set_micro_batch", micro_batch);
  active_ = micro_batch;
  sink_->set_micro_batch(micro_batch);
}

void CheckedStep::begin_reduce() {
  require_backward("reduce_gradients");
  for (std::size_t i = 0; i < begun_.size(); ++i) {
    if (begun_[i] && !finished_[i]) {
      refuse(strategy_,
             "reduce_gradients() was called before micro-batch {} was finished; call finish({}, "
             "loss_sum) once all of its gradients have come",
             i, i);
    }
  }
  phase_ = Phase::kFailed;
}

// Counts what libtorch has written to the parameters. It misses what is written to their memory, as
// strategies and trireme's optimizers do, and to data(), as libtorch's SGD does.
std::int64_t CheckedStep::version_of_parameters() const {
  std::int64_t version = 0;
  for (const auto& [name, tensor] : parameters_) version += tensor._version();
  return version;
}

void CheckedStep::end_backward(const GradientReport& report) {
  phase_ = Phase::kReduced;
  is_finite_ = report.is_finite;
  bad_buffer_ = report.bad_buffer;
  version_ = version_of_parameters();
}

void CheckedStep::check_update() const {
  check_reduced("update");
  if (!is_finite_) {
    throw DivergedError(fmt::format(
        "strategy {}: {} not finite, and update() would have written it to the model; nothing has "
        "been changed. Look at GradientReport::is_finite and call skip_update() in place of "
        "update(), or end the training and try a smaller learning rate",
        strategy_,
        bad_buffer_.empty() ? "the loss or a gradient of this step is"
                            : fmt::format("values of buffer {} are", bad_buffer_)));
  }
  if (version_of_parameters() == version_) return;
  refuse(strategy_,
         "the parameters were changed between reduce_gradients() and update(); leave out "
         "optimizer.step(), which update(optimizer) calls, or change them after update()");
}

void CheckedStep::check_reduced(const char* call) const {
  if (phase_ == Phase::kReduced) return;
  require_not_failed(call);
  refuse(strategy_, "{}() was called {}; call reduce_gradients() before it", call,
         phase_ == Phase::kUnattached ? "before attach()"
         : phase_ == Phase::kReady    ? "before begin()"
                                      : "before reduce_gradients()");
}

}  // namespace trireme
