#pragma once

#include <cstdint>
#include <span>

namespace trireme {

/// Replaces a matrix [rows, columns] of independent normal numbers by `scale` times a matrix whose
/// rows (or columns, whichever are fewer) are orthonormal, drawn evenly from all such matrices
/// (modified Gram-Schmidt, in f64 and in a fixed order).
void orthogonalize(std::span<double> matrix, std::int64_t rows, double scale);

}  // namespace trireme
