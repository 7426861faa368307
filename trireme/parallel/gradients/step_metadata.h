#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>
#include <vector>

#include "trireme/comm/communicator.h"
#include "trireme/kernels/row_program.h"
#include "trireme/parallel/step.h"
#include "trireme/tensor/named_tensors.h"

namespace trireme {

/// What ranks tell each other in a step beside the gradients, in f64 and in tree order: the loss,
/// which parameters had a gradient, whether a rank requests to stop, the weight of the step, and
/// the change of the model's buffers (batch normalization), whose mean over the micro-batches
/// becomes the new value.
class StepMetadata {
 public:
  /// Collective. `buffers` are kept by reference count. What is passed by reference must outlive
  /// this object.
  StepMetadata(Communicator& ranks, const ReductionTree& tree, const RowProgram& program,
               std::size_t parameters, const std::vector<NamedTensor>& buffers);

  void begin(const StepShape& shape, double weight);

  /// Changes of the model's buffers belong to `micro_batch` from now on.
  void set_micro_batch(int micro_batch);
  /// In any order of micro-batches. Changes of the buffers then belong to the next one.
  void finish(int micro_batch, double loss_sum);

  /// Collective: starts to sum what has come over all ranks. `gradients[p]`: how many gradients
  /// parameter p has had on this rank.
  Work start(std::span<const std::int64_t> gradients);
  /// After that: updates the model's buffers. Throws UsageError, on every rank, if ranks have given
  /// the step different weights.
  void apply();

  /// After apply(), over all ranks:
  double loss_sum() const { return row(0)[kLoss]; }
  bool stop() const { return tail(0)[kStop] > 0; }
  /// Whether any micro-batch had a gradient of the parameter.
  std::span<const char> used() const { return used_; }

 private:
  struct Contribution {
    bool is_finished = false;
    double loss = 0;
    std::vector<double> changes;  // of the buffers; empty: none
  };
  // The places of a row: [loss, changes of the buffers], which are folded in tree order, then
  // [gradients of each parameter, and this].
  enum Tail : std::uint8_t { kPasses, kStop, kWeight, kWeightSquared, kTail };
  static constexpr std::size_t kLoss = 0;
  static constexpr std::size_t kChanges = 1;

  double* row(int index) const { return static_cast<double*>(rows_.data()) + index * row_count_; }
  double* counts(int index) const { return row(index) + folded_; }
  double* tail(int index) const { return counts(index) + used_.size(); }
  void capture_changes();
  void fold_finished();
  void fold(const Contribution& contribution);
  void require_same_weight() const;

  Communicator& ranks_;
  const ReductionTree& tree_;
  const RowProgram& program_;
  std::vector<at::Tensor> buffers_, before_;
  std::int64_t folded_ = 0;     // values of a row that are folded in tree order
  std::int64_t row_count_ = 0;  // all values of a row
  Memory rows_;
  std::vector<char> used_;

  // The step under way.
  StepShape shape_;
  double weight_ = 1;
  std::size_t current_ = 0;  // micro-batch that changes of the buffers belong to
  std::size_t next_ = 0;     // micro-batches that have been folded
  std::vector<Contribution> contributions_;
};

}  // namespace trireme
