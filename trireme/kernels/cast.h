#pragma once

#include <cstdint>

#include "trireme/base/buffer.h"

namespace trireme {

/// Converts f16 or bf16 to f32, exactly. `from` and `to` hold from.count elements and do not
/// overlap.
void widen(const Buffer& from, float* to);

/// Converts f32 to f16 or bf16, rounded to nearest, ties to even; the bits are the same on every
/// instruction set.
void narrow(const float* from, const Buffer& to);

/// What widen() gives after narrow() to `dtype`, f16 or bf16. `from` and `to` hold `count` elements
/// and may be the same.
void round_to(DType dtype, const float* from, float* to, std::int64_t count);

}  // namespace trireme
