#pragma once

#include <cstdint>
#include <span>

#include "trireme/base/buffer.h"

namespace trireme {

/// Brings the singular values of matrices near 1 and keeps the singular vectors, by the
/// Newton-Schulz iteration of Muon (Jordan et al. 2024, kellerjordan.github.io/posts/muon):
///
///     x = x / (|x| + 1e-7)            |.|: the Frobenius norm
///     each step: a = x x^T;  x = 3.4445 x + (-4.7750 a + 2.0315 a a) x
///
/// with x transposed if it has more rows than columns. After five steps singular values lie in
/// about [0.7, 1.2], but for those that were below about 1e-3 of the norm. A step takes 2 m^2 n +
/// m^3 multiply-adds for m <= n; 0.5 m^2 n + 0.5 m^3 of them are saved since `a` is symmetric.
///
/// `x`: [rows, columns], f32 or f64, is replaced. `scratch`: three arrays of its count and type.
void orthogonalize(Buffer x, std::int64_t rows, std::int64_t columns, std::int64_t steps,
                   std::span<const Buffer, 3> scratch);

}  // namespace trireme
