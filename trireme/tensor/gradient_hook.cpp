#include "trireme/tensor/gradient_hook.h"

#include <torch/csrc/autograd/engine.h>
#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/utils/lambda_post_hook.h>
#include <torch/csrc/autograd/variable.h>

namespace trireme {

struct GradientHook::Registration {
  // The parameter holds its accumulator only weakly.
  std::shared_ptr<torch::autograd::Node> accumulator;
  std::uintptr_t key = 0;
};

GradientHook::GradientHook(const at::Tensor& parameter, std::function<void()> ready)
    : registration_(std::make_unique<Registration>()) {
  using torch::autograd::variable_list;
  registration_->accumulator = torch::autograd::impl::grad_accumulator(parameter);
  registration_->key = registration_->accumulator->add_post_hook(
      std::make_unique<torch::autograd::utils::LambdaPostHook>(
          [ready = std::move(ready)](const variable_list& outputs, const variable_list&) {
            ready();
            return outputs;
          }));
}

GradientHook::GradientHook(GradientHook&&) noexcept = default;

GradientHook::~GradientHook() {
  if (registration_) registration_->accumulator->del_post_hook(registration_->key);
}

void after_this_backward(std::function<void()> done) {
  torch::autograd::Engine::get_default_engine().queue_callback(std::move(done));
}

}  // namespace trireme
