#pragma once

#include <cstddef>
#include <cstdint>

namespace trireme::compress {

/// Blocks of kBlock values, each with one f32 scale = mean |x| and a bit for each x: set where
/// x < 0. First all scales, then all bits, the first in a byte's lowest.
struct Sign {
  static constexpr std::int64_t kBlock = 256;

  static std::int64_t blocks(std::int64_t count) { return (count + kBlock - 1) / kBlock; }
  static std::uint64_t bytes(std::int64_t count) {
    return static_cast<std::uint64_t>(blocks(count)) * sizeof(float) +
           (static_cast<std::uint64_t>(count) + 7) / 8;
  }
  static void encode(const float* x, std::int64_t count, std::byte* body);
  static void add(const std::byte* body, std::int64_t count, float* sum, float factor);
};

}  // namespace trireme::compress
