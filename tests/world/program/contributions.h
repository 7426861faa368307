#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <vector>

#include "trireme/base/hash.h"

namespace trireme::test {

/// What the ranks of world_program sum, and the sum itself, taken slowly by one process.

constexpr std::int64_t kElements = 1'000'003;
constexpr int kVirtualWorkers = 12;

/// Element i of the contribution of virtual worker `worker`: of either sign and of any size from
/// 2^-12 to 2^12, so that a sum in another order has other bits.
inline float contribution(int worker, std::int64_t i) {
  // SplitMix64 (Steele et al. 2014).
  std::uint64_t x = (static_cast<std::uint64_t>(worker) << 40) + static_cast<std::uint64_t>(i);
  x = (x + 1) * 0x9e3779b97f4a7c15;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  x ^= x >> 31;
  const auto mantissa = static_cast<float>(static_cast<std::int32_t>(x >> 32)) * 0x1p-31f;
  return std::ldexp(mantissa, static_cast<int>(x % 25) - 12);
}

/// Element i of the sum over `count` virtual workers from `first` on: the sum over the largest
/// power of two below `count`, and the sum over the rest.
inline float sum_of_contributions(int first, int count, std::int64_t i) {
  if (count == 1) return contribution(first, i);
  const auto left = static_cast<int>(std::bit_ceil(static_cast<unsigned>(count)) / 2);
  return sum_of_contributions(first, left, i) + sum_of_contributions(first + left, count - left, i);
}

inline std::vector<float> sum_of_contributions(int first, int count) {
  std::vector<float> sum(kElements);
  for (std::int64_t i = 0; i < kElements; ++i) sum[i] = sum_of_contributions(first, count, i);
  return sum;
}

/// A hash of the bytes.
inline std::uint64_t checksum(const std::vector<float>& values) {
  return fnv1a({reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float)});
}

}  // namespace trireme::test
