#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "trireme/comm/communicator.h"
#include "trireme/kernels/row_program.h"
#include "trireme/parallel/step.h"

namespace trireme {

/// What ranks tell each other in a step beside the gradients, in f64: the loss, in tree order;
/// which parameters had a gradient and which buffers have changed; a bound of the gradients;
/// whether a rank requests to stop, and the weight of the step.
class StepMetadata {
 public:
  /// Collective. What is passed by reference must outlive this object.
  StepMetadata(Communicator& ranks, const ReductionTree& tree, const RowProgram& program,
               std::size_t parameters, std::size_t buffers);

  void begin(const StepShape& shape, double weight);

  /// In any order of micro-batches.
  void finish(int micro_batch, double loss_sum);

  struct OfRank {
    std::span<const std::int64_t> gradients;  ///< how many each parameter has had
    std::span<const double> buffer_changes;   ///< micro-batches that have changed each buffer
    double bound = 0;  ///< no sum of this rank's gradients is larger; see StepGradients
  };
  /// Collective: starts to sum what has come over all ranks.
  Work start(const OfRank& rank);
  /// After that. Throws UsageError, on every rank, if ranks have given the step different weights,
  /// or if their models' values were changed between two steps and differ.
  void finish();

  /// After finish(), over all ranks:
  double loss_sum() const { return row(0)[0]; }
  double micro_batches() const { return tail(0)[kPasses]; }
  bool stop() const { return tail(0)[kStop] > 0; }
  double bound() const { return tail(0)[kBound]; }
  /// Whether any micro-batch had a gradient of the parameter.
  std::span<const char> used() const { return used_; }
  std::span<const double> buffer_changes() const { return {counts(0) + used_.size(), buffers_}; }

 private:
  struct Contribution {
    bool is_finished = false;
    double loss = 0;
  };
  // The places of a row: the loss, which is folded in tree order, then [gradients of each
  // parameter, changes of each buffer, and this].
  enum Tail : std::uint8_t {
    kPasses,
    kStop,
    kBound,
    kWeight,
    kWeightSquared,
    kChanged,
    kChangedSquared,
    kTail
  };

  double* row(int index) const { return static_cast<double*>(rows_.data()) + index * row_count_; }
  double* counts(int index) const { return row(index) + 1; }
  double* tail(int index) const { return counts(index) + used_.size() + buffers_; }
  void fold_finished();
  void fold(const Contribution& contribution);
  void require_same_weight() const;
  void require_same_changes() const;

  Communicator& ranks_;
  const ReductionTree& tree_;
  const RowProgram& program_;
  std::vector<char> used_;
  std::size_t buffers_;
  std::int64_t row_count_;  // values of a row
  Memory rows_;

  // The step under way.
  StepShape shape_;
  double weight_ = 1;
  std::size_t next_ = 0;  // micro-batches that have been folded
  std::vector<Contribution> contributions_;
};

}  // namespace trireme
