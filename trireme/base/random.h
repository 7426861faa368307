#pragma once

#include <array>
#include <cstdint>

namespace trireme {

/// Counter-based random numbers (Philox4x32-10, Salmon et al. 2011): the value is a pure function
/// of (seed, stream, index), so any rank can compute any of them without the others.
class CounterRandom {
 public:
  explicit CounterRandom(std::uint64_t seed, std::uint64_t stream = 0)
      : seed_(seed), stream_(stream) {}

  /// The four 32-bit words of counter `index`.
  std::array<std::uint32_t, 4> words(std::uint64_t index) const;

  /// 64 uniform bits.
  std::uint64_t bits(std::uint64_t index) const;

  /// Uniform in [0, 1) with 53 bits.
  double uniform(std::uint64_t index) const;

  /// Standard normal (Box and Muller 1958).
  double normal(std::uint64_t index) const;

 private:
  std::uint64_t seed_;
  std::uint64_t stream_;
};

/// One well-mixed 64-bit value of several: a seed for (seed, step, virtual worker), say.
std::uint64_t mix_seed(std::uint64_t seed, std::uint64_t a, std::uint64_t b = 0);

}  // namespace trireme
