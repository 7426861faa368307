#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "trireme/base/partition.h"

namespace trireme::compress {

/// PowerSGD (Vogels, Karimireddy and Jaggi 2019): a matrix M [rows, columns] travels as P Q^T with
/// P = orthogonal(M Q'), Q = M^T P and Q' the Q of the step before, one step of a power iteration.
///
/// The body: u64 rows, columns and head; f32 head values that come before the first whole row, and
/// those behind the last one; P as [rank, rows], Q as [rank, columns].
struct LowRank {
  std::int64_t count = 0;
  std::int64_t rows = 0;
  std::int64_t columns = 0;
  std::int64_t head = 0;  ///< elements before the first whole row
  std::int64_t rank = 0;

  std::int64_t matrix() const { return rows * columns; }
  std::int64_t tail() const { return count - head - matrix(); }
  std::uint64_t bytes() const;

  /// The matrix in `slice` of a tensor of shape [shape[0], rest]; rows = 0 and all of it head if
  /// factors of this rank would not be smaller.
  static LowRank of(std::span<const std::int64_t> shape, Range slice, std::int64_t rank);

  /// As a body of `size` bytes says; nothing if it cannot be one of `count` values.
  static std::optional<LowRank> parse(std::span<const std::byte> body, std::int64_t count,
                                      std::int64_t rank);

  // The steps of it, for those who sum P and Q between them. p: [rank, rows], q: [rank, columns].

  /// P = M Q.
  void project(const float* x, const float* q, float* p) const;
  /// Makes the columns of P orthonormal. Those that the others already span become zero, and are
  /// returned.
  std::vector<std::int64_t> orthonormalize(float* p) const;
  /// Q = M^T P.
  void project_back(const float* x, const float* p, float* q) const;
  /// The matrix in `sum` += factor * P Q^T. P and Q are f32 at any address.
  void add_product(const std::byte* p, const std::byte* q, float* sum, float factor) const;
  /// Standard normal values for row `row` of q.
  void draw(float* q, std::int64_t row, std::uint64_t seed) const;

  /// All of them. `q`: Q' on entry and Q on return, in which columns that P does not have are drawn
  /// from `seed`; in the body they are zero.
  void encode(const float* x, std::span<float> q, std::uint64_t seed, std::byte* body) const;
  void add(const std::byte* body, float* sum, float factor) const;
};

}  // namespace trireme::compress
