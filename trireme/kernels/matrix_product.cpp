#include "trireme/kernels/matrix_product.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <vector>

#include "trireme/base/error.h"

#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_AVX3_DL)
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "trireme/kernels/matrix_product.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace trireme::HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

// A tile of `out` is kTileRows rows by two vectors: 12 registers of sums. A block of `a` stays in
// the second cache, a strip of `b` in the first.
constexpr std::int64_t kTileRows = 6;
constexpr std::int64_t kDepth = 256;         // terms that are summed in registers
constexpr std::int64_t kBlockRows = 96;      // of `a`
constexpr std::int64_t kBlockColumns = 768;  // of `b`

template <class T>
struct View {
  explicit View(const MatrixView& m)
      : data(m.values.as<T>()),
        rows(m.rows),
        columns(m.columns),
        row_stride(m.row_stride),
        column_stride(m.column_stride) {}
  T* at(std::int64_t i, std::int64_t j) const { return data + i * row_stride + j * column_stride; }

  T* data;
  std::int64_t rows, columns, row_stride, column_stride;
};

template <class T>
constexpr std::int64_t tile_columns() {
  return 2 * static_cast<std::int64_t>(hn::MaxLanes(hn::ScalableTag<T>()));
}

// Writes element (k, j) of `m`, a view of [depth, columns], to strip j / width: [depth, width]. The
// last strip ends with zeros.
template <class T>
void pack(const View<T>& m, std::int64_t width, T* packed) {
  for (std::int64_t first = 0; first < m.columns; first += width) {
    const std::int64_t columns = std::min(width, m.columns - first);
    if (columns < width) std::fill_n(packed, m.rows * width, T(0));
    if (m.column_stride == 1) {
      for (std::int64_t k = 0; k < m.rows; ++k) {
        std::copy_n(m.at(k, first), columns, packed + k * width);
      }
    } else {
      for (std::int64_t j = 0; j < columns; ++j) {
        const T* from = m.at(0, first + j);
        for (std::int64_t k = 0; k < m.rows; ++k) packed[k * width + j] = from[k * m.row_stride];
      }
    }
    packed += m.rows * width;
  }
}

template <class T>
View<T> part(View<T> m, std::int64_t row, std::int64_t column, std::int64_t rows,
             std::int64_t columns) {
  m.data = m.at(row, column);
  m.rows = rows;
  m.columns = columns;
  return m;
}

template <class T>
View<T> transposed(View<T> m) {
  std::swap(m.rows, m.columns);
  std::swap(m.row_stride, m.column_stride);
  return m;
}

// out = out_scale * out + scale * sums, for a tile with `rows` and `columns` of `out`, at most all.
template <class T>
void add_tile(const T* sums, T* out, std::int64_t stride, std::int64_t rows, std::int64_t columns,
              T scale, T out_scale) {
  for (std::int64_t i = 0; i < rows; ++i) {
    for (std::int64_t j = 0; j < columns; ++j) {
      T& element = out[i * stride + j];
      const T product = scale * sums[i * tile_columns<T>() + j];
      element = out_scale == 0 ? product : out_scale * element + product;
    }
  }
}

// `a`: [depth, kTileRows], `b`: [depth, tile_columns()], both packed; `sums` is a tile.
template <class T>
HWY_INLINE void multiply_tile(const T* HWY_RESTRICT a, const T* HWY_RESTRICT b, std::int64_t depth,
                              T* HWY_RESTRICT sums) {
  const hn::ScalableTag<T> d;
  constexpr std::size_t kLanes = hn::MaxLanes(hn::ScalableTag<T>());
  using V = hn::Vec<decltype(d)>;
  V sum[kTileRows][2];
  for (auto& row : sum) row[0] = row[1] = hn::Zero(d);
  for (std::int64_t k = 0; k < depth; ++k) {
    const V left = hn::LoadU(d, b);
    const V right = hn::LoadU(d, b + kLanes);
    for (std::int64_t i = 0; i < kTileRows; ++i) {
      const V factor = hn::Set(d, a[i]);
      sum[i][0] = hn::MulAdd(factor, left, sum[i][0]);
      sum[i][1] = hn::MulAdd(factor, right, sum[i][1]);
    }
    a += kTileRows;
    b += 2 * kLanes;
  }
  for (std::int64_t i = 0; i < kTileRows; ++i) {
    hn::StoreU(sum[i][0], d, sums + static_cast<std::size_t>(i) * 2 * kLanes);
    hn::StoreU(sum[i][1], d, sums + static_cast<std::size_t>(i) * 2 * kLanes + kLanes);
  }
}

template <class T>
struct Product {
  View<T> out, a, b;
  ProductRule rule;
  std::vector<T> packed_a, packed_b;

  void run() {
    constexpr std::int64_t kColumns = tile_columns<T>();
    packed_a.resize(static_cast<std::size_t>(kBlockRows * kDepth));
    packed_b.resize(static_cast<std::size_t>((kBlockColumns + kColumns) * kDepth));
    for (std::int64_t j = 0; j < out.columns; j += kBlockColumns) {
      const std::int64_t columns = std::min(kBlockColumns, out.columns - j);
      for (std::int64_t k = 0; k < a.columns; k += kDepth) {
        const std::int64_t depth = std::min(kDepth, a.columns - k);
        pack(part(b, k, j, depth, columns), kColumns, packed_b.data());
        for (std::int64_t i = 0; i < out.rows; i += kBlockRows) {
          if (is_below_diagonal(i, j + columns)) break;
          const std::int64_t rows = std::min(kBlockRows, out.rows - i);
          pack(transposed(part(a, i, k, rows, depth)), kTileRows, packed_a.data());
          multiply_block(i, j, rows, columns, depth, k == 0);
        }
      }
    }
    if (rule.is_symmetric) mirror();
  }

  bool is_below_diagonal(std::int64_t first_row, std::int64_t end_column) const {
    return rule.is_symmetric && first_row >= end_column;
  }

  void multiply_block(std::int64_t first_row, std::int64_t first_column, std::int64_t rows,
                      std::int64_t columns, std::int64_t depth, bool is_first) {
    constexpr std::int64_t kColumns = tile_columns<T>();
    alignas(64) T sums[kTileRows * kColumns];
    const T out_scale = is_first ? static_cast<T>(rule.out_scale) : T(1);
    for (std::int64_t j = 0; j < columns; j += kColumns) {
      const std::int64_t tile_width = std::min(kColumns, columns - j);
      for (std::int64_t i = 0; i < rows; i += kTileRows) {
        if (is_below_diagonal(first_row + i, first_column + j + tile_width)) break;
        multiply_tile(packed_a.data() + i * depth, packed_b.data() + j * depth, depth, sums);
        add_tile(sums, out.at(first_row + i, first_column + j), out.row_stride,
                 std::min(kTileRows, rows - i), tile_width, static_cast<T>(rule.scale), out_scale);
      }
    }
  }

  void mirror() {
    for (std::int64_t i = 1; i < out.rows; ++i) {
      for (std::int64_t j = 0; j < i; ++j) *out.at(i, j) = *out.at(j, i);
    }
  }
};

template <class T>
void multiply(const MatrixView& out, const MatrixView& a, const MatrixView& b,
              const ProductRule& rule) {
  Product<T>{View<T>(out), View<T>(a), View<T>(b), rule, {}, {}}.run();
}

void multiply_f32(const MatrixView& out, const MatrixView& a, const MatrixView& b,
                  const ProductRule& rule) {
  multiply<float>(out, a, b, rule);
}
void multiply_f64(const MatrixView& out, const MatrixView& a, const MatrixView& b,
                  const ProductRule& rule) {
  multiply<double>(out, a, b, rule);
}

}  // namespace
}  // namespace trireme::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace trireme {
namespace {

HWY_EXPORT(multiply_f32);
HWY_EXPORT(multiply_f64);

std::string shape_of(const MatrixView& m) {
  return fmt::format("[{}, {}]", m.rows, m.columns);
}

void check(const MatrixView& out, const MatrixView& a, const MatrixView& b) {
  const DType dtype = out.values.dtype;
  if ((dtype != DType::kF32 && dtype != DType::kF64) || a.values.dtype != dtype ||
      b.values.dtype != dtype) {
    throw UsageError(
        fmt::format("matrix_product: matrices must all be f32 or all f64, got {}, {} "
                    "and {}",
                    name_of(dtype), name_of(a.values.dtype), name_of(b.values.dtype)));
  }
  if (out.rows != a.rows || out.columns != b.columns || a.columns != b.rows) {
    throw UsageError(fmt::format("matrix_product: {} cannot be the product of {} and {}",
                                 shape_of(out), shape_of(a), shape_of(b)));
  }
  if (out.column_stride != 1 && out.row_stride != 1) {
    throw UsageError("matrix_product: rows or columns of out must be contiguous");
  }
}

void scale_only(const MatrixView& out, double scale) {
  for (std::int64_t i = 0; i < out.rows; ++i) {
    for (std::int64_t j = 0; j < out.columns; ++j) {
      const std::int64_t at = i * out.row_stride + j * out.column_stride;
      if (out.values.dtype == DType::kF32) {
        float& element = out.values.as<float>()[at];
        element = scale == 0 ? 0 : static_cast<float>(scale) * element;
      } else {
        double& element = out.values.as<double>()[at];
        element = scale == 0 ? 0 : scale * element;
      }
    }
  }
}

}  // namespace

MatrixView row_major(Buffer values, std::int64_t rows, std::int64_t columns) {
  if (rows >= 0 && columns >= 0 && values.count == rows * columns) {
    return {values, rows, columns, columns, 1};
  }
  throw UsageError(fmt::format("row_major: a matrix of [{}, {}] has {} elements, got {}", rows,
                               columns, rows * columns, values.count));
}

void matrix_product(const MatrixView& out, const MatrixView& a, const MatrixView& b,
                    const ProductRule& rule) {
  check(out, a, b);
  if (a.columns == 0) return scale_only(out, rule.out_scale);
  if (out.column_stride != 1) {  // the loops below store rows
    return matrix_product(out.transposed(), b.transposed(), a.transposed(), rule);
  }
  if (out.values.dtype == DType::kF32) {
    HWY_DYNAMIC_DISPATCH(multiply_f32)(out, a, b, rule);
  } else {
    HWY_DYNAMIC_DISPATCH(multiply_f64)(out, a, b, rule);
  }
}

}  // namespace trireme
#endif  // HWY_ONCE
