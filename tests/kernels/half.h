#pragma once

#include <cmath>
#include <cstdint>
#include <limits>

#include "trireme/base/buffer.h"

namespace trireme {

/// The oracle for f16 and bf16: values decoded from their fields, and encoded by search for the
/// nearest among all that the type has.
inline double value_of_half(std::uint16_t bits, int exponent_bits) {
  const int fraction_bits = 15 - exponent_bits;
  const int bias = (1 << (exponent_bits - 1)) - 1;
  const int exponent = (bits & 0x7FFF) >> fraction_bits;
  const int fraction = bits & ((1 << fraction_bits) - 1);
  const double sign = bits & 0x8000 ? -1.0 : 1.0;
  if (exponent == (1 << exponent_bits) - 1) {
    return fraction ? std::nan("") : sign * std::numeric_limits<double>::infinity();
  }
  if (exponent == 0) return sign * std::ldexp(fraction, 1 - bias - fraction_bits);
  return sign * std::ldexp((1 << fraction_bits) + fraction, exponent - bias - fraction_bits);
}

inline std::uint16_t nearest_half(double value, int exponent_bits) {
  const std::uint16_t infinity = ((1 << exponent_bits) - 1) << (15 - exponent_bits);
  const std::uint16_t sign = std::signbit(value) ? 0x8000 : 0;
  value = std::abs(value);
  std::uint16_t low = 0;
  std::uint16_t high = infinity;  // as the number that would follow the largest
  const auto number = [&](std::uint16_t bits) {
    return bits < infinity ? value_of_half(bits, exponent_bits)
                           : std::ldexp(1.0, 1 << (exponent_bits - 1));
  };
  if (value >= number(infinity)) return sign | infinity;
  while (high - low > 1) {
    const std::uint16_t middle = (low + high) / 2;
    (number(middle) <= value ? low : high) = middle;
  }
  const double below = value - number(low);
  const double above = number(high) - value;
  const bool up = below > above || (below == above && (low & 1));
  return sign | (up ? high : low);
}

inline int exponent_bits_of(DType dtype) {
  return dtype == DType::kF16 ? 5 : 8;
}

}  // namespace trireme
