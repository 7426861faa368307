#pragma once

#include <cstdint>

namespace trireme {

/// What a backward pass computes again in place of keeping it from the forward pass. The bits are
/// the same.
enum class Recompute : std::uint8_t {
  kNone,
  kSelective,  ///< the probabilities of attention (Korthikanti et al. 2022)
  kFull,       ///< each block, from its input (Chen et al. 2016)
};

}  // namespace trireme
