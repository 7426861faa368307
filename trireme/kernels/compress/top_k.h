#pragma once

#include <cstddef>
#include <cstdint>

namespace trireme::compress {

/// The k values of largest magnitude, of equal ones the first; as k ascending u32 indices and then
/// k f32 values. NaN counts as larger than infinity. Needs 0 <= k <= count < 2^32.
struct TopK {
  static std::uint64_t bytes(std::int64_t k) {
    return static_cast<std::uint64_t>(k) * (sizeof(std::uint32_t) + sizeof(float));
  }
  static void encode(const float* x, std::int64_t count, std::int64_t k, std::byte* body);
  /// True if the indices ascend below `count`: what add() relies on.
  static bool valid(const std::byte* body, std::int64_t count, std::int64_t k);
  static void add(const std::byte* body, std::int64_t k, float* sum, float factor);
};

}  // namespace trireme::compress
