#include "trireme/kernels/stochastic_rounding.h"

#include <array>
#include <bit>
#include <cmath>

namespace trireme {

namespace {

constexpr std::uint64_t kWords = 4;  // of a counter: one for each value
constexpr std::uint32_t kLost = 0xFFFF;

// The bits that are lost, plus as many random ones, carry with the probability that they stand for.
float rounded(float value, std::uint32_t random) {
  if (!std::isfinite(value)) return value;
  const auto bits = std::bit_cast<std::uint32_t>(value);
  return std::bit_cast<float>((bits + (random & kLost)) & ~kLost);
}

}  // namespace

void round_stochastically_to_bf16(float* values, std::int64_t count, const CounterRandom& random,
                                  std::uint64_t first) {
  const auto all = static_cast<std::uint64_t>(count);
  for (std::uint64_t i = 0; i < all;) {
    const std::uint64_t element = first + i;
    const std::array<std::uint32_t, kWords> words = random.words(element / kWords);
    for (std::uint64_t word = element % kWords; word < kWords && i < all; ++word, ++i) {
      values[i] = rounded(values[i], words[word]);
    }
  }
}

}  // namespace trireme
