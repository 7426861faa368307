#pragma once

#include <vector>

#include "trireme/comm/communicator.h"
#include "trireme/data/dataset.h"

namespace trireme {

/// What is done to a sample's numbers before a model sees them: missing inputs are filled, and
/// inputs and targets are scaled to mean 0 and variance 1. The vectors have an entry for each value
/// of an input, in row-major order, or of a target. They are computed from the training samples,
/// stored beside the model, and applied to every input of the model.
struct Standardization {
  std::vector<double> fill;         ///< for inputs that are NaN; empty: none is
  std::vector<double> mean;         ///< empty: inputs are not scaled
  std::vector<double> deviation;    ///< 1 where all samples have the same value
  std::vector<double> target_mean;  ///< empty: targets are not scaled
  std::vector<double> target_deviation;

  /// A NaN becomes its fill, then x becomes (x - mean) / deviation, computed in f64, in place.
  /// Throws UsageError if the widths differ or the type is neither f32 nor f64.
  void apply(Batch& batch) const;
};

struct StandardizationOptions {
  bool targets = false;       ///< scale targets too, which must be numbers
  bool fill_missing = false;  ///< inputs may be NaN and get the mean of the others
};

/// Returns the statistics of `dataset` over all ranks, with the same bits on any number of ranks:
/// virtual worker w of `tree` sums the samples partition(size, virtual workers, w) in f64, in
/// order, and these sums are added in the tree's order. Two passes: the mean, then the squared
/// distances from it (population variance). A rank needs only the samples of its own virtual
/// workers.
///
/// Collective over `world`, which must have tree.ranks() ranks. Throws UsageError if targets are to
/// be scaled and are no numbers, if there are no samples, or if an input is missing in all of them.
Standardization standardization_of(const Dataset& dataset, Communicator& world,
                                   const ReductionTree& tree, StandardizationOptions options = {});

/// `inner`, which must outlive it, with every batch standardized and then converted to `type`.
class StandardizedDataset final : public Dataset {
 public:
  StandardizedDataset(const Dataset& inner, Standardization by, at::ScalarType type)
      : inner_(inner), by_(std::move(by)), type_(type) {}

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
  at::ScalarType type_;  // of inputs and of targets that are numbers
};

}  // namespace trireme
