#pragma once

#include <cstddef>
#include <cstdint>

namespace trireme::compress {

/// One value drawn at random from each of k equal parts, so that a seed stands for all k indices:
/// the u64 seed, then k f32 values in order. Needs 1 <= k <= count < 2^32, or none at all.
struct RandomK {
  static std::uint64_t bytes(std::int64_t k) {
    return sizeof(std::uint64_t) + static_cast<std::uint64_t>(k) * sizeof(float);
  }
  static void encode(const float* x, std::int64_t count, std::int64_t k, std::uint64_t seed,
                     std::byte* body);
  static void add(const std::byte* body, std::int64_t count, std::int64_t k, float* sum,
                  float factor);
};

}  // namespace trireme::compress
