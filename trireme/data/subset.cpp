#include "trireme/data/subset.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "trireme/base/error.h"
#include "trireme/data/rows.h"

namespace trireme {

namespace {

Range checked(Range range, std::int64_t size) {
  if (range.begin < 0 || range.begin > range.end || range.end > size) {
    throw UsageError(
        fmt::format("subset: must lie in [0, {}), got [{}, {})", size, range.begin, range.end));
  }
  return range;
}

void require_whole(const Dataset& all) {
  if (all.local_range() != Range{0, all.size()}) {
    throw UsageError(
        fmt::format("subset: a random subset needs all {} samples on this rank, which has [{}, "
                    "{}); take a range "
                    "instead",
                    all.size(), all.local_range().begin, all.local_range().end));
  }
}

}  // namespace

Subset::Subset(const Dataset& all, Range range) : all_(all), range_(checked(range, all.size())) {}

Subset::Subset(const Dataset& all, const Permutation& order, Range positions)
    : all_(all), order_(order), range_(checked(positions, all.size())) {
  require_whole(all);
}

Batch Subset::batch(std::span<const std::int64_t> indices) const {
  return all_.batch(indices_of_all(indices));
}

double Subset::weight(std::span<const std::int64_t> indices) const {
  return all_.weight(indices_of_all(indices));
}

std::vector<std::int64_t> Subset::indices_of_all(std::span<const std::int64_t> indices) const {
  check_indices(indices, {0, size()});
  std::vector<std::int64_t> inner(indices.begin(), indices.end());
  for (std::int64_t& i : inner) {
    i += range_.begin;
    if (order_) i = (*order_)[i];
  }
  return inner;
}

Range Subset::local_range() const {
  if (order_) return {0, size()};
  const auto clip = [&](std::int64_t i) {
    return std::clamp(i, range_.begin, range_.end) - range_.begin;
  };
  return {clip(all_.local_range().begin), clip(all_.local_range().end)};
}

Split hold_out(const Dataset& all, double fraction, std::uint64_t seed) {
  const std::int64_t held_out =
      fraction > 0 && fraction < 1
          ? static_cast<std::int64_t>(std::llround(fraction * static_cast<double>(all.size())))
          : 0;
  if (held_out < 1 || held_out >= all.size()) {
    throw UsageError(
        fmt::format("hold_out: both parts must have samples, got the fraction {} of {} samples",
                    fraction, all.size()));
  }
  const Permutation order(all.size(), seed);
  return {Subset(all, order, {held_out, all.size()}), Subset(all, order, {0, held_out})};
}

}  // namespace trireme
