#include "trireme/model/orthogonal.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <vector>

namespace trireme {

namespace {

// Eight sums side by side: an order of additions that the compiler can vectorize.
double dot(std::span<const double> a, std::span<const double> b) {
  constexpr std::size_t kLanes = 8;
  std::array<double, kLanes> sums{};
  std::size_t i = 0;
  for (; i + kLanes <= a.size(); i += kLanes) {
    for (std::size_t lane = 0; lane < kLanes; ++lane) sums[lane] += a[i + lane] * b[i + lane];
  }
  double sum = 0;
  for (const double s : sums) sum += s;
  for (; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

// vectors: [count, length], count <= length.
void orthonormalize(std::span<double> vectors, std::size_t count) {
  const std::size_t length = vectors.size() / count;
  for (std::size_t i = 0; i < count; ++i) {
    const auto unit = vectors.subspan(i * length, length);
    const double norm = std::sqrt(dot(unit, unit));
    for (double& x : unit) x /= norm;
    for (std::size_t j = i + 1; j < count; ++j) {
      const auto rest = vectors.subspan(j * length, length);
      const double along = dot(unit, rest);
      for (std::size_t k = 0; k < length; ++k) rest[k] -= along * unit[k];
    }
  }
}

std::vector<double> transposed(std::span<const double> matrix, std::size_t rows) {
  const std::size_t columns = matrix.size() / rows;
  std::vector<double> result(matrix.size());
  for (std::size_t r = 0; r < rows; ++r) {
    for (std::size_t c = 0; c < columns; ++c) result[c * rows + r] = matrix[r * columns + c];
  }
  return result;
}

}  // namespace

void orthogonalize(std::span<double> matrix, std::int64_t rows, double scale) {
  if (matrix.empty()) return;
  const auto n_rows = static_cast<std::size_t>(rows);
  const std::size_t n_columns = matrix.size() / n_rows;
  if (n_rows <= n_columns) {
    orthonormalize(matrix, n_rows);
  } else {
    std::vector<double> flipped = transposed(matrix, n_rows);
    orthonormalize(flipped, n_columns);
    const std::vector<double> back = transposed(flipped, n_columns);
    std::copy(back.begin(), back.end(), matrix.begin());
  }
  for (double& x : matrix) x *= scale;
}

}  // namespace trireme
