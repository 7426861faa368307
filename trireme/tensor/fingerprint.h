#pragma once

#include <ATen/core/Tensor.h>

#include <span>

namespace trireme {

/// A number in [1, 2^20] that tells values apart: equal tensors have equal ones, different tensors
/// with a probability of one in a million. Contiguous tensors on the CPU.
double fingerprint_of(std::span<const at::Tensor> tensors);

}  // namespace trireme
