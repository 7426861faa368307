#include "trireme/optim/orthogonalize.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "trireme/kernels/matrix_product.h"
#include "trireme/kernels/norm.h"

namespace trireme {

namespace {

// Of Jordan et al. 2024: the slope at 0 is as large as convergence allows.
constexpr double kLinear = 3.4445;
constexpr double kCubic = -4.7750;
constexpr double kQuintic = 2.0315;

template <class T>
void multiply(T* x, std::int64_t count, double factor) {
  for (std::int64_t i = 0; i < count; ++i) x[i] = static_cast<T>(x[i] * factor);
}

void normalize(const Buffer& x) {
  const double factor = 1 / (std::sqrt(sum_of_squares(x)) + 1e-7);
  if (x.dtype == DType::kF32) {
    multiply(x.as<float>(), x.count, factor);
  } else {
    multiply(x.as<double>(), x.count, factor);
  }
}

MatrixView wide_view(const Buffer& x, std::int64_t rows, std::int64_t columns) {
  const MatrixView view = row_major(x, rows, columns);
  return rows > columns ? view.transposed() : view;
}

}  // namespace

void orthogonalize(Buffer x, std::int64_t rows, std::int64_t columns, std::int64_t steps,
                   std::span<const Buffer, 3> scratch) {
  const std::int64_t side = std::min(rows, columns);
  const Buffer square = scratch[0].slice(0, side * side);
  const Buffer polynomial = scratch[1].slice(0, side * side);
  const MatrixView a = row_major(square, side, side);
  const MatrixView of_a = row_major(polynomial, side, side);
  Buffer now = x;
  Buffer next = scratch[2];
  normalize(now);
  for (std::int64_t step = 0; step < steps; ++step) {
    const MatrixView wide = wide_view(now, rows, columns);
    matrix_product(a, wide, wide.transposed(), {.is_symmetric = true});
    std::memcpy(polynomial.data, square.data, square.bytes());
    matrix_product(of_a, a, a, {.scale = kQuintic, .out_scale = kCubic, .is_symmetric = true});
    std::memcpy(next.data, now.data, now.bytes());
    matrix_product(wide_view(next, rows, columns), of_a, wide, {.out_scale = kLinear});
    std::swap(now, next);
  }
  if (now.data != x.data) std::memcpy(x.data, now.data, x.bytes());
}

}  // namespace trireme
