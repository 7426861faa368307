#pragma once

#include <cstdint>
#include <iterator>
#include <optional>
#include <vector>

#include "trireme/base/region.h"

namespace trireme {

/// Elements that are contiguous both in the memory of a region and in the whole tensor.
struct Run {
  std::int64_t local = 0;  ///< of the first one, in the region
  std::int64_t full = 0;   ///< of the first one, in the flattened tensor
  std::int64_t count = 0;

  bool operator==(const Run&) const = default;
};

/// Where a region's elements lie in the whole tensor. It is computed, not listed: memory does not
/// grow with the tensor, and each function takes time in proportion to the number of cuts.
class RegionMap {
 public:
  explicit RegionMap(const Region& region);

  std::int64_t count() const { return range_.size(); }
  /// Returns the longest run that begins at element `local` of the region, which must exist.
  Run run_at(std::int64_t local) const;
  /// Returns how many elements of the region lie before element `full` of the tensor.
  std::int64_t count_before(std::int64_t full) const;

 private:
  // Consecutive dimensions that are not cut, or one that is. An index of it is `stride` elements of
  // the tensor and `inner` elements of what the cuts keep.
  struct Level {
    std::int64_t size = 0;
    std::vector<Range> kept;
    std::vector<std::int64_t> kept_before;  // indices of earlier ranges; one more entry: of all
    std::int64_t stride = 1;
    std::int64_t inner = 1;
  };

  static Level level_of(std::vector<Range> kept, std::int64_t size);
  Run run_of_one_range(std::int64_t at) const;

  std::vector<Level> levels_;
  std::int64_t kept_ = 1;
  std::int64_t elements_ = 1;
  Range range_;
};

/// The longest runs of a region, in ascending order:
///
///     for (const Run& run : runs_of(region)) copy(local + run.local, full + run.full, run.count);
class Runs {
 public:
  explicit Runs(const Region& region) : map_(region) {}

  class Iterator {
   public:
    using value_type = Run;
    using difference_type = std::ptrdiff_t;

    explicit Iterator(const RegionMap& map) : map_(&map) { find(0); }
    const Run& operator*() const { return run_; }
    const Run* operator->() const { return &run_; }
    Iterator& operator++() {
      find(run_.local + run_.count);
      return *this;
    }
    void operator++(int) { ++*this; }
    bool operator==(std::default_sentinel_t) const { return run_.count == 0; }

   private:
    void find(std::int64_t local) { run_ = local < map_->count() ? map_->run_at(local) : Run{}; }

    const RegionMap* map_;
    Run run_;
  };

  Iterator begin() const { return Iterator(map_); }
  std::default_sentinel_t end() const { return {}; }

 private:
  RegionMap map_;
};

Runs runs_of(const Region& region);

/// Elements that two regions of one tensor both hold, contiguous in both.
struct CommonRun {
  std::int64_t first = 0;   ///< offset in the first region
  std::int64_t second = 0;  ///< offset in the second region
  std::int64_t count = 0;
};

/// Yields what two regions of tensors of the same shape have in common, in ascending order.
class CommonRuns {
 public:
  CommonRuns(const Region& first, const Region& second);

  /// Returns the next run, or nothing after the last one.
  std::optional<CommonRun> next();

 private:
  RegionMap first_, second_;
  std::int64_t at_first_ = 0, at_second_ = 0;
};

/// Returns how many elements two regions of one tensor have in common, without visiting them.
std::int64_t common_count(const Region& first, const Region& second);

}  // namespace trireme
