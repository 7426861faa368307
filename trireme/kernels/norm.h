#pragma once

#include "trireme/base/buffer.h"

namespace trireme {

/// Returns the sum of x[i]^2 in f64, for f32 and f64. Element i is added to partial sum i mod 16
/// and the sixteen are summed pairwise, so the bits depend neither on the machine nor on the
/// alignment. Throws UsageError for other types.
double sum_of_squares(Buffer x);

/// Returns the largest |x[i]|: infinity if x holds a NaN or an infinity, 0 if it has no values or
/// holds integers.
double largest_magnitude(Buffer x);

/// Returns false if x holds a NaN or an infinity. Integers are always finite.
bool all_finite(Buffer x);

/// The largest finite number of a type; that of f64 for integers, which do not overflow to
/// infinity.
double largest_finite(DType dtype);

}  // namespace trireme
