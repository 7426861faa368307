#pragma once

#include "trireme/base/buffer.h"

namespace trireme {

// Elementwise functions of f32 or f64 and their gradients, of buffers of one size. They throw
// UsageError for other types.

/// y = x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2, the approximation of GELU that GPT-2 has
/// (Hendrycks and Gimpel 2016).
void gelu(const Buffer& y, const Buffer& x);
void gelu_backward(const Buffer& dx, const Buffer& dy, const Buffer& x);

/// y = silu(gate) * up (SwiGLU; Shazeer 2020).
void swiglu(const Buffer& y, const Buffer& gate, const Buffer& up);
void swiglu_backward(const Buffer& dgate, const Buffer& dup, const Buffer& dy, const Buffer& gate,
                     const Buffer& up);

}  // namespace trireme
