#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "trireme/kernels/dropout.h"

namespace trireme {

// Operations of transformer blocks that keep only what their gradients need. x: [n, length, ...] of
// f32 or f64.

/// x with elements dropped; keeps nothing. x itself if nothing is dropped.
at::Tensor dropped(const at::Tensor& x, const Dropout& dropout);

/// See kernels/rms_norm.h; weight: [width], the size of the last dimension. Keeps x.
at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps);

/// See kernels/activation.h; keeps x.
at::Tensor gelu_tanh(const at::Tensor& x);

/// silu(gate) * up; keeps both.
at::Tensor swiglu(const at::Tensor& gate, const at::Tensor& up);

/// Row tokens[i] of `table` [vocabulary, width] for each token, plus, if `places` is defined, row
/// positions[i] of `places` [context, width]. tokens, positions: [n, length] i64; undefined
/// positions are 0, 1, 2, ... in each sample. Throws UsageError for a token or a position that has
/// no row.
at::Tensor embed(const at::Tensor& tokens, const at::Tensor& table, const at::Tensor& positions,
                 const at::Tensor& places);

}  // namespace trireme
