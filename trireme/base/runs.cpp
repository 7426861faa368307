#include "trireme/base/runs.h"

#include <algorithm>

namespace trireme {

namespace {

// The place of the first element of a region, and of the one behind its last, in the tensor.
Range extent_of(const Region& region) {
  if (region.count() == 0) return {};
  const RegionMap map(region);
  return {map.run_at(0).full, map.run_at(region.count() - 1).full + 1};
}

std::vector<Range> common_ranges(const std::vector<Range>& a, const std::vector<Range>& b) {
  std::vector<Range> common;
  for (std::size_t i = 0, j = 0; i < a.size() && j < b.size();) {
    const Range both{std::max(a[i].begin, b[j].begin), std::min(a[i].end, b[j].end)};
    if (both.begin < both.end) common.push_back(both);
    a[i].end < b[j].end ? ++i : ++j;
  }
  return common;
}

// What the cuts of both keep.
Region common_cuts(const Region& a, const Region& b) {
  std::vector<Cut> cuts = a.cuts();
  for (const Cut& cut : b.cuts()) {
    const auto same = std::ranges::find(cuts, cut.dim, &Cut::dim);
    if (same == cuts.end()) {
      cuts.push_back(cut);
    } else {
      same->kept = common_ranges(same->kept, cut.kept);
    }
  }
  return Region(a.full_shape(), std::move(cuts));
}

}  // namespace

RegionMap::Level RegionMap::level_of(std::vector<Range> kept, std::int64_t size) {
  Level level{.size = size, .kept = std::move(kept), .kept_before = {0}};
  for (const Range& range : level.kept) {
    level.kept_before.push_back(level.kept_before.back() + range.size());
  }
  return level;
}

RegionMap::RegionMap(const Region& region) : range_(region.range()) {
  auto cut = region.cuts().begin();
  bool last_is_cut = true;
  for (std::size_t dim = 0; dim < region.full_shape().size(); ++dim) {
    const std::int64_t size = region.full_shape()[dim];
    if (cut != region.cuts().end() && static_cast<std::size_t>(cut->dim) == dim) {
      levels_.push_back(level_of(cut->kept, size));
      ++cut;
      last_is_cut = true;
    } else if (last_is_cut) {
      levels_.push_back(level_of({{0, size}}, size));
      last_is_cut = false;
    } else {
      const std::int64_t merged = levels_.back().size * size;
      levels_.back() = level_of({{0, merged}}, merged);
    }
  }
  if (levels_.empty()) levels_.push_back(level_of({{0, 1}}, 1));
  for (auto level = levels_.rbegin(); level != levels_.rend(); ++level) {
    level->stride = elements_;
    level->inner = kept_;
    elements_ *= level->size;
    kept_ *= level->kept_before.back();
  }
}

// The run from element `at` of what the cuts keep to the end of a range of the last cut.
Run RegionMap::run_of_one_range(std::int64_t at) const {
  Run run{.local = at};
  // Everything behind the last cut is contiguous.
  const std::size_t last =
      levels_.size() > 1 && levels_.back().kept_before.back() == levels_.back().size
          ? levels_.size() - 2
          : levels_.size() - 1;
  for (std::size_t i = 0; i <= last; ++i) {
    const Level& level = levels_[i];
    const std::int64_t index = at / level.inner;  // among those that are kept
    at %= level.inner;
    const auto range = std::ranges::upper_bound(level.kept_before, index) - 1;
    const Range& kept = level.kept[static_cast<std::size_t>(range - level.kept_before.begin())];
    run.full += (kept.begin + index - *range) * level.stride;
    if (i == last) {
      run.full += at;
      run.count = (*(range + 1) - index) * level.inner - at;
    }
  }
  return run;
}

Run RegionMap::run_at(std::int64_t local) const {
  const std::int64_t at = range_.begin + local;
  Run run = run_of_one_range(at);
  // The end of a row may touch the beginning of the next one.
  while (at + run.count < kept_) {
    const Run next = run_of_one_range(at + run.count);
    if (next.full != run.full + run.count) break;
    run.count += next.count;
  }
  run.local = local;
  run.count = std::min(run.count, range_.size() - local);
  return run;
}

std::int64_t RegionMap::count_before(std::int64_t full) const {
  if (kept_ == 0) return 0;
  std::int64_t before = 0;
  std::int64_t left = std::clamp<std::int64_t>(full, 0, elements_);
  for (const Level& level : levels_) {
    const std::int64_t index = left / level.stride;
    left %= level.stride;
    const auto range = std::ranges::upper_bound(level.kept, index, {}, &Range::begin);
    if (range == level.kept.begin()) break;
    const Range& kept = *(range - 1);
    const std::int64_t earlier =
        level.kept_before[static_cast<std::size_t>(range - 1 - level.kept.begin())];
    before += (earlier + std::min(index, kept.end) - kept.begin) * level.inner;
    if (index >= kept.end) break;
  }
  return std::clamp<std::int64_t>(before - range_.begin, 0, count());
}

Runs runs_of(const Region& region) {
  return Runs(region);
}

CommonRuns::CommonRuns(const Region& first, const Region& second)
    : first_(first), second_(second) {}

std::optional<CommonRun> CommonRuns::next() {
  while (at_first_ < first_.count() && at_second_ < second_.count()) {
    const Run a = first_.run_at(at_first_);
    const Run b = second_.run_at(at_second_);
    if (a.full + a.count <= b.full) {
      at_first_ = first_.count_before(b.full);
    } else if (b.full + b.count <= a.full) {
      at_second_ = second_.count_before(a.full);
    } else {
      const std::int64_t begin = std::max(a.full, b.full);
      const std::int64_t end = std::min(a.full + a.count, b.full + b.count);
      const CommonRun common{at_first_ + begin - a.full, at_second_ + begin - b.full, end - begin};
      at_first_ = common.first + common.count;
      at_second_ = common.second + common.count;
      return common;
    }
  }
  return std::nullopt;
}

std::int64_t common_count(const Region& first, const Region& second) {
  if (first.count() == 0 || second.count() == 0) return 0;
  const Range a = extent_of(first), b = extent_of(second);
  const std::int64_t begin = std::max(a.begin, b.begin), end = std::min(a.end, b.end);
  if (begin >= end) return 0;
  const RegionMap common(common_cuts(first, second));
  return common.count_before(end) - common.count_before(begin);
}

}  // namespace trireme
