#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <vector>

namespace trireme {

/// Returns forward(input) and keeps `input` alone: the backward pass calls `forward` again, which
/// must compute the same from `input` and `parameters`, with the same random numbers. Gradients of
/// the parameters arrive in one piece, once all of them are computed.
at::Tensor recomputed(const at::Tensor& input, std::vector<at::Tensor> parameters,
                      std::function<at::Tensor(const at::Tensor&)> forward);

}  // namespace trireme
