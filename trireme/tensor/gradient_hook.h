#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <memory>

namespace trireme {

/// Calls `ready` each time a backward pass has accumulated into parameter.grad(), on the thread
/// that runs backward. The hook ends with this object, which must not be destroyed inside it.
class GradientHook {
 public:
  GradientHook(const at::Tensor& parameter, std::function<void()> ready);
  GradientHook(GradientHook&&) noexcept;
  ~GradientHook();

 private:
  struct Registration;
  std::unique_ptr<Registration> registration_;
};

/// From inside a GradientHook: calls `done` once at the end of the backward pass under way, after
/// every gradient.
void after_this_backward(std::function<void()> done);

}  // namespace trireme
