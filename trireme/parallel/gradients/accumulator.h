#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "trireme/parallel/gradients/bucket_layout.h"
#include "trireme/parallel/gradients/bucket_memory.h"

namespace trireme {

/// Sums the gradients of one rank's micro-batches, in tree order, into the rows of its block. Each
/// parameter has its own place in the row program, so that a deferred gradient of one parameter
/// delays no other. Micro-batches that a parameter skips count as zero.
class GradientAccumulator {
 public:
  /// `layout` and `memory`, of this rank, must outlive the accumulator.
  GradientAccumulator(const BucketLayout& layout, int rank, BucketMemory& memory);

  void begin();

  /// Adds the gradient of a parameter for one micro-batch. The micro-batches of one parameter must
  /// come in ascending order. Returns true if this completes a bucket.
  bool add(std::size_t parameter, int micro_batch, const void* gradient);

  /// Adds zero for each parameter that has no gradient for this micro-batch, or an earlier one, so
  /// far. Returns true if this completes a bucket.
  bool finish(int micro_batch);
  /// The same for all virtual workers of the rank: every bucket is complete.
  void finish_all();

  /// All virtual workers of this rank have been added to each parameter of the bucket.
  bool is_complete(std::size_t bucket) const { return missing_[bucket] == 0; }
  /// How many gradients have come for each parameter.
  std::span<const std::int64_t> gradients() const { return gradients_; }

 private:
  bool skip_to(std::size_t parameter, int micro_batch);
  bool fold(std::size_t parameter, const void* gradient);

  const BucketLayout& layout_;
  int rank_;
  BucketMemory& memory_;
  std::vector<std::size_t> next_;  // of each parameter: micro-batches that have been added
  std::vector<std::int64_t> gradients_;
  std::vector<std::size_t> missing_;  // parameters of each bucket that are not complete
};

}  // namespace trireme
