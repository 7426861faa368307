#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace trireme {

/// Items [begin, end).
struct Range {
  std::int64_t begin = 0;
  std::int64_t end = 0;

  std::int64_t size() const { return end - begin; }
  bool contains(std::int64_t i) const { return begin <= i && i < end; }
  bool operator==(const Range&) const = default;
};

/// Part `part` of `count` items cut into `parts` contiguous pieces whose sizes differ by at most
/// one, the larger ones first. The one rule by which trireme shares out samples, virtual workers
/// and elements.
inline Range partition(std::int64_t count, std::int64_t parts, std::int64_t part) {
  const std::int64_t base = count / parts;
  const std::int64_t larger = count % parts;
  const std::int64_t begin = part * base + (part < larger ? part : larger);
  return {begin, begin + base + (part < larger ? 1 : 0)};
}

/// `count` items cut into contiguous pieces, at least one item each, in proportion to `weights`: no
/// other cut has a smaller largest size / weight. With equal weights they are those of partition().
/// Requires count >= weights.size() >= 1 and weights above 0.
std::vector<Range> partition_in_proportion(std::int64_t count, std::span<const double> weights);

/// The same as partition() with every cut on a multiple of `grain` items (the last piece takes the
/// rest).
inline Range partition_aligned(std::int64_t count, std::int64_t parts, std::int64_t part,
                               std::int64_t grain) {
  const std::int64_t grains = (count + grain - 1) / grain;
  const Range r = partition(grains, parts, part);
  const auto clip = [&](std::int64_t g) { return g * grain < count ? g * grain : count; };
  return {clip(r.begin), clip(r.end)};
}

}  // namespace trireme
