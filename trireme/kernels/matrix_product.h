#pragma once

#include <cstdint>

#include "trireme/base/buffer.h"

namespace trireme {

/// A matrix in memory that it does not own: element (i, j) is values[i * row_stride + j *
/// column_stride]. f32 or f64.
struct MatrixView {
  Buffer values;
  std::int64_t rows = 0;
  std::int64_t columns = 0;
  std::int64_t row_stride = 0;
  std::int64_t column_stride = 1;

  MatrixView transposed() const { return {values, columns, rows, column_stride, row_stride}; }
};

/// `values` as a row-major matrix. Throws UsageError unless it has rows * columns elements.
MatrixView row_major(Buffer values, std::int64_t rows, std::int64_t columns);

struct ProductRule {
  double scale = 1;      ///< of the product
  double out_scale = 0;  ///< of what `out` held
  /// The product and `out` are symmetric: only the upper half is computed, the lower is its copy.
  bool is_symmetric = false;
};

/// out = out_scale * out + scale * a * b, with one thread. `out`: [m, n], contiguous rows or
/// columns, must not overlap the others; `a`: [m, k]; `b`: [k, n].
///
/// An element is a sum over k in ascending order, 256 terms at a time, with fused multiply-adds
/// where the processor has them. So its bits depend neither on the number of ranks nor on the width
/// of vectors, but they do on whether there are fused multiply-adds. Blocked for caches as in Goto
/// and van de Geijn 2008, "Anatomy of high-performance matrix multiplication".
/// Throws UsageError for other types, or for shapes that do not fit.
void matrix_product(const MatrixView& out, const MatrixView& a, const MatrixView& b,
                    const ProductRule& rule = {});

}  // namespace trireme
