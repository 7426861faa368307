#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "trireme/comm/communicator.h"
#include "trireme/parallel/compressed_sum.h"
#include "trireme/parallel/gradients/accumulator.h"
#include "trireme/parallel/gradients/bucket_layout.h"
#include "trireme/parallel/gradients/bucket_memory.h"

namespace trireme {

/// All-reduces buckets while backward runs: every rank starts the same ones in the same order, each
/// as soon as it and those before it are complete on this rank. Without a codec the partial sums of
/// all ranks are summed in tree order and divided once; with a codec each rank sends one compressed
/// payload: the sum over its own virtual workers, divided.
class GradientReducer {
 public:
  /// Collective if `options` name a codec. `tensors`: name and shape of each parameter.
  /// What is passed by reference must outlive the reducer.
  GradientReducer(Communicator& ranks, const ReductionTree& tree, const BucketLayout& layout,
                  BucketMemory& memory, std::span<const NamedShape> tensors,
                  const CompressionOptions& options);

  /// The sums of the step are divided by `divisor`.
  void begin(double divisor);
  /// Makes what is remembered from step to step what it was before this one.
  void restore_state();
  bool compresses() const { return !compressed_.empty(); }
  /// Starts the all-reduce of each bucket whose turn it is and which is complete.
  void start_complete(const GradientAccumulator& accumulator);

  /// Waits for all buckets, of which each must have been started. The results are in row 0.
  void wait();
  /// Collective, after wait(): decodes what was compressed. `used[p]` tells whether a gradient of
  /// parameter p came on any rank; others keep their residual.
  void finish(std::span<const char> used);

  /// Residuals and factors of the compression, for checkpoints.
  std::vector<Strategy::State> state();

 private:
  Buffer first_row(std::size_t parameter) const;
  std::vector<Buffer> first_rows(std::size_t bucket) const;
  Work start(std::size_t bucket);
  Work start_compressed(std::size_t bucket);

  Communicator& ranks_;
  const ReductionTree& tree_;
  const BucketLayout& layout_;
  BucketMemory& memory_;
  std::vector<CompressedSum> compressed_;       // one for each bucket, or none
  std::vector<std::vector<std::byte>> before_;  // the step: each tensor of state()
  std::int64_t step_ = 0;                       // for the random choices of codecs
  double divisor_ = 1;
  std::size_t started_ = 0;
  std::vector<Work> works_;
};

}  // namespace trireme
