#pragma once

#include <array>
#include <cstdint>

namespace trireme {

/// A seeded permutation of [0, size) that is computed index by index, in constant memory and time,
/// for any size up to 2^62: a Feistel network over the next power of two, walked along its cycle
/// until it lands inside (Black and Rogaway 2002, "Ciphers with Arbitrary Finite Domains").
///
///     const Permutation order(samples, seed, epoch);
///     order[0];            // the sample that comes first
///     order.position(7);   // when sample 7 comes
///
/// A pure function of its arguments; any number of threads may use one. It shuffles and is no
/// secure cipher.
class Permutation {
 public:
  /// Throws UsageError unless 0 <= size <= 2^62.
  Permutation(std::int64_t size, std::uint64_t seed, std::uint64_t epoch = 0);

  std::int64_t size() const { return size_; }

  /// Requires 0 <= position < size().
  std::int64_t operator[](std::int64_t position) const;

  /// The inverse: (*this)[position(index)] == index.
  std::int64_t position(std::int64_t index) const;

 private:
  static constexpr int kMostRounds = 32;

  std::uint64_t forward(std::uint64_t x) const;
  std::uint64_t backward(std::uint64_t x) const;

  std::int64_t size_;
  int low_bits_;  // the domain's bits in two halves, low_bits_ >= high_bits
  std::uint64_t low_mask_;
  std::uint64_t high_mask_;
  int rounds_;
  std::array<std::uint64_t, kMostRounds> keys_;
};

}  // namespace trireme
