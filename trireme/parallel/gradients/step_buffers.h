#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "trireme/comm/communicator.h"
#include "trireme/kernels/row_program.h"
#include "trireme/parallel/strategy_options.h"
#include "trireme/tensor/watched_tensor.h"

namespace trireme {

/// The model's buffers (running statistics, counters, masks) in a step. Every micro-batch starts
/// from the values before the step. Afterwards a buffer that no micro-batch has changed keeps its
/// bits, whatever its type, and costs nothing; of others each value becomes its old value plus the
/// mean of the micro-batches' changes, summed in f64 in tree order, rounded for integers. Where a
/// value was not finite before the step, the mean is that of the new values. Buffers of bool, and
/// all with BufferUpdate::kFirst, become what the first virtual worker has made of them.
class StepBuffers {
 public:
  /// `buffers` are kept by reference count. What is passed by reference must outlive this object.
  StepBuffers(Communicator& ranks, const ReductionTree& tree, const RowProgram& program,
              const std::vector<NamedTensor>& buffers, BufferUpdate update);

  std::size_t size() const { return buffers_.size(); }

  /// `micro_batches`: of this rank, the first ones of its virtual workers. Returns 0 if no buffer
  /// has changed since the last step, otherwise fingerprint_of() those that have.
  double begin(int micro_batches);
  /// What has changed since begin() or the last call belongs to `micro_batch`. Restores the values
  /// from before the step.
  void capture(std::size_t micro_batch);

  /// Collective: starts to sum the changes of the buffers that have changed in earlier steps.
  Work start();
  /// How many micro-batches of this rank have changed each buffer.
  std::span<const double> changes() const { return changes_; }

  /// Collective, after that work. `changes`: over all ranks; `micro_batches`: of the whole step.
  /// Returns the name of the first buffer with a value that was finite before the step and would
  /// not be afterwards, "" if there is none. The buffers keep their old values until commit().
  std::string finish(std::span<const double> changes, double micro_batches);
  /// Gives the buffers their new values.
  void commit();

 private:
  struct Contribution {
    std::size_t micro_batch = 0;
    at::Tensor values;  // f64
  };
  struct Tracked {
    WatchedTensor watched;
    bool first_only = false;  // takes the value of the first virtual worker
    bool changes = false;     // has changed in some step, on some rank
    std::int64_t count = 0;   // of values in f64
    std::int64_t offset = 0;  // in a row
    std::vector<Contribution> contributions;
    at::Tensor first = {};  // the value after micro-batch 0
    at::Tensor next = {};   // what commit() writes
  };

  void contribute(Tracked& tracked, std::size_t micro_batch) const;
  void lay_out();
  void fold(const Tracked& tracked) const;
  Work sum();
  at::Tensor mean_of(const Tracked& tracked, double micro_batches) const;
  at::Tensor first_of(const Tracked& tracked) const;
  double* row(int index, const Tracked& tracked) const {
    return static_cast<double*>(rows_.data()) + index * row_count_ + tracked.offset;
  }

  Communicator& ranks_;
  const ReductionTree& tree_;
  const RowProgram& program_;
  std::vector<Tracked> buffers_;
  std::vector<double> changes_;
  Memory rows_;                 // of the buffers that change, as many rows as the program needs
  std::int64_t row_count_ = 0;  // values of a row
  int micro_batches_ = 0;
};

}  // namespace trireme
