#include "trireme/tensor/gradient_hook.h"

#include <torch/csrc/autograd/engine.h>
#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/function_hook.h>
#include <torch/csrc/autograd/variable.h>

#include <algorithm>
#include <utility>

namespace trireme {

namespace {

class ReadyHook final : public torch::autograd::FunctionPostHook {
 public:
  explicit ReadyHook(std::function<void()> ready) : ready_(std::move(ready)) {}

  torch::autograd::variable_list operator()(const torch::autograd::variable_list& outputs,
                                            const torch::autograd::variable_list&) override {
    ready_();
    return outputs;
  }

 private:
  std::function<void()> ready_;
};

}  // namespace

struct GradientHook::Registration {
  // The parameter holds its accumulator only weakly.
  std::shared_ptr<torch::autograd::Node> accumulator;
  std::uintptr_t key = 0;
};

GradientHook::GradientHook(const at::Tensor& parameter, std::function<void()> ready)
    : registration_(std::make_unique<Registration>()) {
  registration_->accumulator = torch::autograd::impl::grad_accumulator(parameter);
  registration_->key =
      registration_->accumulator->add_post_hook(std::make_unique<ReadyHook>(std::move(ready)));
}

GradientHook::GradientHook(GradientHook&&) noexcept = default;

GradientHook::~GradientHook() {
  if (registration_) registration_->accumulator->del_post_hook(registration_->key);
}

bool GradientHook::is_on(const at::Tensor& parameter) {
  const auto accumulator = torch::autograd::impl::try_get_grad_accumulator(parameter);
  return accumulator && std::ranges::any_of(accumulator->post_hooks(), [](const auto& hook) {
           return dynamic_cast<const ReadyHook*>(hook.get()) != nullptr;
         });
}

void after_this_backward(std::function<void()> done) {
  torch::autograd::Engine::get_default_engine().queue_callback(std::move(done));
}

}  // namespace trireme
