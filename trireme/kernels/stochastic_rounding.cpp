#include "trireme/kernels/stochastic_rounding.h"

#include <bit>
#include <cmath>

#include "trireme/kernels/random_words.h"

namespace trireme {

namespace {

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
  for_each_word(random, first, static_cast<std::uint64_t>(count),
                [&](std::uint64_t i, std::uint32_t word) { values[i] = rounded(values[i], word); });
}

}  // namespace trireme
