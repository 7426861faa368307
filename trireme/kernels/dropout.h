#pragma once

#include <cstdint>

#include "trireme/base/buffer.h"
#include "trireme/base/random.h"

namespace trireme {

/// Which elements dropout keeps (Srivastava et al. 2014): a pure function of the random numbers and
/// of the element's index, so that the gradient and a forward pass that is computed again find the
/// same ones, and so does another rank.
struct Dropout {
  double fraction = 0;  ///< of the elements, in [0, 1), that become 0; the others are scaled up
  std::uint64_t seed = 0;
  std::uint64_t stream = 0;  ///< one for each place of a model that drops
};

/// Drops of `x`, of f32 or f64, in place; x[0] is element `first`. Throws UsageError for other
/// types.
void drop(Buffer x, const Dropout& dropout, std::uint64_t first = 0);

}  // namespace trireme
