#pragma once

#include <cstddef>
#include <cstdint>

namespace trireme::compress {

/// Blocks of kBlock values, each with one f32 scale = max |x| / 127 and x as round(x / scale), to
/// nearest, ties to even. First all scales, then all bytes. A block whose largest value is below
/// 1e-35 counts as zero; of a block with a value that is not finite all values come out NaN.
struct Int8 {
  static constexpr std::int64_t kBlock = 256;

  static std::int64_t blocks(std::int64_t count) { return (count + kBlock - 1) / kBlock; }
  static std::uint64_t bytes(std::int64_t count) {
    return static_cast<std::uint64_t>(blocks(count)) * sizeof(float) +
           static_cast<std::uint64_t>(count);
  }
  static void encode(const float* x, std::int64_t count, std::byte* body);
  static void add(const std::byte* body, std::int64_t count, float* sum, float factor);
};

}  // namespace trireme::compress
