#pragma once

#include <cstdint>

#include "trireme/base/random.h"

namespace trireme {

/// Rounds `count` values of f32 to one of the two nearest of bf16, the nearer the more likely, so
/// that the mean is the value itself (Gupta et al. 2015). values[0] has random number `first`.
/// What is not finite stays as it is; above the largest bf16 a value may become infinite.
void round_stochastically_to_bf16(float* values, std::int64_t count, const CounterRandom& random,
                                  std::uint64_t first);

}  // namespace trireme
