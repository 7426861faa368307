#include "trireme/kernels/rotary.h"

#include <fmt/format.h>

#include <cmath>
#include <cstddef>
#include <vector>

#include "trireme/base/error.h"

namespace trireme {

namespace {

template <class T>
void rotate_rows(HeadRows to, HeadRows from, std::span<const std::int64_t> positions,
                 const Rotary& rotary, bool backward) {
  auto* y = static_cast<T*>(to.data);
  const auto* x = static_cast<const T*>(from.data);
  const auto half = static_cast<std::size_t>(rotary.width / 2);
  std::vector<double> frequencies(half);
  for (std::size_t i = 0; i < half; ++i) {
    frequencies[i] =
        std::pow(rotary.theta, -2.0 * static_cast<double>(i) / static_cast<double>(rotary.width));
  }
  std::vector<T> cosines(half);
  std::vector<T> sines(half);
  std::int64_t known = -1;
  for (const std::int64_t position : positions) {
    if (position != known) {
      for (std::size_t i = 0; i < half; ++i) {
        const double angle = static_cast<double>(position) * frequencies[i];
        cosines[i] = static_cast<T>(std::cos(angle));
        sines[i] = static_cast<T>(backward ? -std::sin(angle) : std::sin(angle));
      }
      known = position;
    }
    for (std::int64_t head = 0; head < rotary.heads; ++head) {
      const T* const in = x + head * rotary.width;
      T* const out = y + head * rotary.width;
      for (std::size_t i = 0; i < half; ++i) {
        const T low = in[i];
        const T high = in[i + half];
        out[i] = low * cosines[i] - high * sines[i];
        out[i + half] = high * cosines[i] + low * sines[i];
      }
    }
    x += from.stride;
    y += to.stride;
  }
}

}  // namespace

void rotate(HeadRows y, HeadRows x, DType dtype, std::span<const std::int64_t> positions,
            const Rotary& rotary, bool backward) {
  switch (dtype) {
    case DType::kF32:
      return rotate_rows<float>(y, x, positions, rotary, backward);
    case DType::kF64:
      return rotate_rows<double>(y, x, positions, rotary, backward);
    default:
      throw UsageError(fmt::format("rotate needs f32 or f64, got {}", name_of(dtype)));
  }
}

}  // namespace trireme
