#pragma once

#include <cstdint>
#include <span>

#include "trireme/base/buffer.h"

namespace trireme {

/// Rotates pairs of elements of each head by angles that grow with the position (Su et al. 2021). A
/// pair is (x[i], x[i + width / 2]), as in Hugging Face's Llama; its angle at position p is
/// p * theta^(-2 i / width).
struct Rotary {
  std::int64_t heads = 1;
  std::int64_t width = 0;  ///< of a head, even
  double theta = 10000;
};

/// Rows of heads, each row `stride` elements after the one before.
struct HeadRows {
  void* data = nullptr;
  std::int64_t stride = 0;
};

/// y = x rotated, a row for each position; `backward` rotates the other way, which is the gradient.
/// Throws UsageError unless the values are f32 or f64.
void rotate(HeadRows y, HeadRows x, DType dtype, std::span<const std::int64_t> positions,
            const Rotary& rotary, bool backward);

}  // namespace trireme
