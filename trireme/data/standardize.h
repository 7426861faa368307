#pragma once

#include <vector>

#include "trireme/comm/communicator.h"
#include "trireme/data/dataset.h"

namespace trireme {

/// Mean and standard deviation of every value of an input, in row-major order, and of the target if
/// it is standardized too. They are computed from the training samples, stored beside the model,
/// and applied to every input of the model.
struct Standardization {
  std::vector<double> mean;
  std::vector<double> deviation;    ///< 1 where all samples have the same value
  std::vector<double> target_mean;  ///< empty: targets keep their values
  std::vector<double> target_deviation;

  /// x becomes (x - mean) / deviation, computed in f64, in place. Throws UsageError if the widths
  /// differ or the type is neither f32 nor f64.
  void apply(Batch& batch) const;
};

/// Returns the statistics of `dataset` over all ranks, with the same bits on any number of ranks:
/// virtual worker w of `tree` sums the samples partition(size, virtual workers, w) in f64, in
/// order, and these sums are added in the tree's order. Two passes: the mean, then the squared
/// distances from it (population variance). A rank needs only the samples of its own virtual
/// workers.
///
/// Collective over `world`, which must have tree.ranks() ranks. Throws UsageError if
/// `targets` is true and targets are no numbers, or if there are no samples.
Standardization standardization_of(const Dataset& dataset, Communicator& world,
                                   const ReductionTree& tree, bool targets = false);

/// `inner`, which must outlive it, with every batch standardized.
class StandardizedDataset final : public Dataset {
 public:
  StandardizedDataset(const Dataset& inner, Standardization by)
      : inner_(inner), by_(std::move(by)) {}

  std::int64_t size() const override { return inner_.size(); }
  std::vector<std::int64_t> input_shape() const override { return inner_.input_shape(); }
  Target target() const override { return inner_.target(); }
  Range local_range() const override { return inner_.local_range(); }
  double weight(std::span<const std::int64_t> indices) const override {
    return inner_.weight(indices);
  }
  bool has_equal_weights() const override { return inner_.has_equal_weights(); }
  Batch batch(std::span<const std::int64_t> indices) const override;

 private:
  const Dataset& inner_;
  Standardization by_;
};

}  // namespace trireme
