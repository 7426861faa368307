#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "trireme/base/partition.h"
#include "trireme/parallel/gradients/bucket_layout.h"

namespace trireme {

/// Buckets cut into consecutive pieces, one for each of `parts` ranks: ZeRO's partition. Cuts lie
/// where blocks of kBlock elements begin, counted from the start of each parameter, so that norms
/// have the same bits for any number of parts; pieces of a bucket are as equal as that allows.
class BucketPieces {
 public:
  /// `owners`: the part that has each parameter, in whole (BucketLayout::Parameter::owner); empty:
  /// parameters are cut.
  BucketPieces(const BucketLayout& layout, int parts, std::span<const int> owners = {});

  /// Elements of a row of the bucket that belong to `part`; may be none.
  Range of(std::size_t bucket, int part) const;
  /// The elements of a parameter that belong to `part`, counted from the parameter's first; may be
  /// none.
  Range of(const BucketLayout::Slot& parameter, int part) const;
  /// The number of elements of each part.
  std::span<const std::int64_t> counts(std::size_t bucket) const { return counts_[bucket]; }

 private:
  std::vector<std::vector<std::int64_t>> counts_;  // of each bucket
};

/// Returns an owner for each parameter, given their sizes: the largest ones first, each to the part
/// that has the fewest elements (LPT; Graham 1969).
std::vector<int> balanced_owners(std::span<const std::int64_t> counts, int parts);

}  // namespace trireme
