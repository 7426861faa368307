#pragma once

#include "trireme/base/buffer.h"

namespace trireme {

/// Converts f16 or bf16 to f32, exactly. `from` and `to` hold from.count elements and do not
/// overlap.
void widen(const Buffer& from, float* to);

/// Converts f32 to f16 or bf16, rounded to nearest, ties to even; the bits are the same on every
/// instruction set.
void narrow(const float* from, const Buffer& to);

}  // namespace trireme
