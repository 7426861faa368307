#include "trireme/parallel/gradients/bucket_pieces.h"

#include <algorithm>
#include <numeric>

#include "trireme/parallel/gradient_norm.h"

namespace trireme {

namespace {

// The places of a bucket at which it may be cut, ascending: where a block of a parameter begins.
std::vector<std::int64_t> possible_cuts(const BucketLayout& layout,
                                        const BucketLayout::Bucket& bucket) {
  std::vector<std::int64_t> cuts;
  for (const std::size_t p : bucket.parameters) {
    const BucketLayout::Slot& slot = layout.slots()[p];
    for (std::int64_t at = 0; at < slot.count; at += kBlock) cuts.push_back(slot.offset + at);
  }
  cuts.push_back(bucket.count);
  return cuts;
}

std::int64_t nearest(std::span<const std::int64_t> ascending, std::int64_t wanted) {
  const auto above = std::ranges::lower_bound(ascending, wanted);
  if (above == ascending.begin()) return *above;
  if (above == ascending.end()) return ascending.back();
  const std::int64_t below = *std::prev(above);
  return wanted - below < *above - wanted ? below : *above;
}

std::vector<std::int64_t> equal_pieces(const BucketLayout& layout,
                                       const BucketLayout::Bucket& bucket, int parts) {
  const std::vector<std::int64_t> cuts = possible_cuts(layout, bucket);
  std::vector<std::int64_t> counts;
  std::int64_t begin = 0;
  for (int part = 1; part <= parts; ++part) {
    const std::int64_t end =
        part == parts ? bucket.count : nearest(cuts, bucket.count * part / parts);
    counts.push_back(end - begin);
    begin = end;
  }
  return counts;
}

std::vector<std::int64_t> owned_pieces(const BucketLayout& layout,
                                       const BucketLayout::Bucket& bucket, int parts,
                                       std::span<const int> owners) {
  std::vector<std::int64_t> counts(static_cast<std::size_t>(parts), 0);
  for (std::size_t i = 0; i < bucket.parameters.size(); ++i) {
    const auto offset = [&](std::size_t index) {
      return index < bucket.parameters.size() ? layout.slots()[bucket.parameters[index]].offset
                                              : bucket.count;
    };
    counts[static_cast<std::size_t>(owners[bucket.parameters[i]])] += offset(i + 1) - offset(i);
  }
  return counts;
}

}  // namespace

BucketPieces::BucketPieces(const BucketLayout& layout, int parts, std::span<const int> owners) {
  for (const BucketLayout::Bucket& bucket : layout.buckets()) {
    counts_.push_back(owners.empty() ? equal_pieces(layout, bucket, parts)
                                     : owned_pieces(layout, bucket, parts, owners));
  }
}

Range BucketPieces::of(std::size_t bucket, int part) const {
  const auto& counts = counts_[bucket];
  const std::int64_t begin =
      std::accumulate(counts.begin(), counts.begin() + part, std::int64_t{0});
  return {begin, begin + counts[static_cast<std::size_t>(part)]};
}

Range BucketPieces::of(const BucketLayout::Slot& parameter, int part) const {
  const Range own = of(parameter.bucket, part);
  const std::int64_t begin = std::max(own.begin, parameter.offset);
  const std::int64_t end = std::min(own.end, parameter.offset + parameter.count);
  if (begin >= end) return {};
  return {begin - parameter.offset, end - parameter.offset};
}

std::vector<int> balanced_owners(std::span<const std::int64_t> counts, int parts) {
  std::vector<std::size_t> order(counts.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::ranges::stable_sort(order, std::greater(), [&](std::size_t p) { return counts[p]; });
  std::vector<std::int64_t> load(static_cast<std::size_t>(parts), 0);
  std::vector<int> owners(counts.size(), 0);
  for (const std::size_t p : order) {
    const auto least = std::ranges::min_element(load);
    *least += counts[p];
    owners[p] = static_cast<int>(least - load.begin());
  }
  return owners;
}

}  // namespace trireme
