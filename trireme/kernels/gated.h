#pragma once

#include "trireme/base/buffer.h"

namespace trireme {

/// y = silu(gate) * up, elementwise (SwiGLU; Shazeer 2020). f32 or f64; throws UsageError for other
/// types.
void swiglu(Buffer y, Buffer gate, Buffer up);

/// The gradients of both factors, from that of y.
void swiglu_backward(Buffer dgate, Buffer dup, Buffer dy, Buffer gate, Buffer up);

}  // namespace trireme
