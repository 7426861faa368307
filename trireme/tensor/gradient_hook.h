#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <memory>

namespace trireme {

/// Calls `ready` each time a backward pass has accumulated into parameter.grad(), on the thread
/// that runs the pass. The hook is removed with this object, which must not be destroyed inside
/// `ready`.
class GradientHook {
 public:
  GradientHook(const at::Tensor& parameter, std::function<void()> ready);
  GradientHook(GradientHook&&) noexcept;
  ~GradientHook();

  /// True if there is a GradientHook on the parameter.
  static bool is_on(const at::Tensor& parameter);

 private:
  struct Registration;
  std::unique_ptr<Registration> registration_;
};

/// Calls `done` once, at the end of the backward pass that runs, after every gradient. Must be
/// called during a backward pass.
void after_this_backward(std::function<void()> done);

}  // namespace trireme
