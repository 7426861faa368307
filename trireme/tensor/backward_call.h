#pragma once

#include <ATen/core/Tensor.h>

#include <functional>

namespace trireme {

/// Returns a tensor with the values and the memory of `x`. A backward pass calls `call` when it has
/// computed the whole gradient of the result, before it continues to the operations that computed
/// `x`, on the thread that runs it. Returns `x` itself, and never calls, if no gradient of `x` will
/// be needed.
at::Tensor call_in_backward(const at::Tensor& x, std::function<void()> call);

}  // namespace trireme
