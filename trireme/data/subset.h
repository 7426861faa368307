#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "trireme/data/dataset.h"
#include "trireme/data/permutation.h"

namespace trireme {

/// Some samples of another dataset, which must outlive it: sample i is `all`'s sample range.begin +
/// i, or the one at position range.begin + i of a permutation. Constant memory.
class Subset final : public Dataset {
 public:
  /// Throws UsageError unless the range lies in [0, all.size()].
  Subset(const Dataset& all, Range range);
  Subset(const Dataset& all, const Permutation& order, Range positions);

  std::int64_t size() const override { return range_.size(); }
  std::vector<std::int64_t> input_shape() const override { return all_.input_shape(); }
  Target target() const override { return all_.target(); }
  Batch batch(std::span<const std::int64_t> indices) const override;
  Range local_range() const override;
  double weight(std::span<const std::int64_t> indices) const override;
  bool has_equal_weights() const override { return all_.has_equal_weights(); }

 private:
  std::vector<std::int64_t> indices_of_all(std::span<const std::int64_t> indices) const;

  const Dataset& all_;
  std::optional<Permutation> order_;
  Range range_;
};

struct Split {
  Subset train;
  Subset held_out;
};

/// Cuts `all` in two at random: round(fraction * size) samples are held out, the others are for
/// training. A pure function of the size, the fraction and the seed. Throws UsageError if a part
/// would be empty, or if this rank has only some of the samples of `all`.
Split hold_out(const Dataset& all, double fraction, std::uint64_t seed);

}  // namespace trireme
