#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "trireme/base/partition.h"

namespace trireme {

using TensorShape = std::vector<std::int64_t>;

/// Returns the product of `shape`. Throws UsageError if a size is negative or the product
/// overflows.
std::int64_t elements_of(std::span<const std::int64_t> shape);

/// Slices of parameters begin at multiples of this many elements, so that norms, which are summed
/// block by block, have the same bits however parameters are sliced (docs/numerics.md).
inline constexpr std::int64_t kBlockElements = 4096;

/// The indices of one dimension that a region holds.
struct Cut {
  int dim = 0;
  std::vector<Range> kept;  ///< in ascending order, disjoint; a fused weight has a range per part

  bool operator==(const Cut&) const = default;
};

/// A region is the part of a tensor that a rank holds: the tensor is cut along any dimensions, and
/// of the flattened (row-major) rest, the region is a range.
///
///     Region({768, 64})                                       the whole matrix
///     Region({768, 64}, {{.dim = 1, .kept = {{0, 32}}}})      its first 32 columns
///     Region({768, 64}).slice({0, 4096})                      its first 4096 elements
///
/// The order of a region's elements in memory is their order in the tensor.
class Region {
 public:
  /// One number: the tensor of shape {}.
  Region() = default;
  /// Throws UsageError if the shape is impossible, or if a cut names a dimension that does not
  /// exist or was named before, or ranges that overlap, are out of order or leave the dimension.
  Region(TensorShape full_shape, std::vector<Cut> cuts = {});

  /// Returns elements [begin, end) of this region. Throws UsageError unless they lie in it.
  Region slice(Range range) const;
  /// Returns slice `index` of `slices` that differ by at most one block of kBlockElements: ZeRO's.
  Region block_slice(std::int64_t slices, std::int64_t index) const;

  const TensorShape& full_shape() const { return full_shape_; }
  /// In ascending order of dimensions. Ranges that touch are joined, a cut that keeps all is left
  /// out, and a slice of this region keeps its cuts.
  const std::vector<Cut>& cuts() const { return cuts_; }
  /// What this region holds of the elements that the cuts keep, flattened.
  const Range& range() const { return range_; }

  std::int64_t count() const { return range_.size(); }
  /// The shape of what the cuts keep.
  TensorShape cut_shape() const;
  /// The shape of the region in memory: cut_shape(), or one dimension if the region is a slice.
  TensorShape local_shape() const;
  bool is_whole() const { return cuts_.empty() && !is_slice(); }
  /// True if the region has fewer elements than its cuts keep.
  bool is_slice() const { return range_.size() < kept_; }

  bool operator==(const Region&) const = default;

 private:
  TensorShape full_shape_;
  std::vector<Cut> cuts_;
  std::int64_t kept_ = 1;  // elements that the cuts keep
  Range range_ = {0, 1};
};

/// Returns row `row` of a matrix of `rows` rows: what a rank holds of a tensor with a row for each
/// rank.
Region row_of(std::int64_t row, std::int64_t rows, std::int64_t columns);

/// An order of the regions of one tensor: by their cuts, then by their ranges.
bool comes_before(const Region& a, const Region& b);

/// Returns the region in the manner of numpy's indices: "[0:4+8:12, :]" for rows 0 to 3 and 8 to
/// 11,
/// "[0:4096]" for a slice of the flattened tensor, "[:, 0:4][0:9]" for a slice of a cut, "" for a
/// whole tensor.
std::string to_string(const Region& region);

}  // namespace trireme
