#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "trireme/comm/communicator.h"
#include "trireme/kernels/compress.h"
#include "trireme/parallel/low_rank_sum.h"
#include "trireme/parallel/strategy.h"

namespace trireme {

/// Sums tensors over all ranks in compressed form, each rank with error feedback of its own; for a
/// mean each rank divides before. Every rank gets the same bits.
///
///     CompressedSum sum(world, {.codec = "int8"}, tensors);
///     Work work = sum.start(values, step);
///     work.wait();
///     sum.finish(values);
///
/// Payloads that can be summed are all-reduced (Compressor::summable), those of power_sgd by
/// LowRankSum; other payloads are all-gathered, decoded and added in rank order by every rank.
class CompressedSum {
 public:
  using Tensor = NamedShape;

  /// Collective. The tensors are sent together. Throws UsageError if the options are invalid.
  CompressedSum(Communicator& world, const CompressionOptions& options,
                std::vector<Tensor> tensors);

  /// Collective. values[i]: what this rank adds to tensor i, f32 or f64, sent as f32; they may
  /// change once this returns. One sum at a time.
  Work start(std::span<const Buffer> values, std::int64_t step);

  /// Collective, after that work: sums[i] becomes the sum over the ranks of what they have sent for
  /// tensor i.
  void finish(std::span<const Buffer> sums);

  /// Returns the transmitted part of tensor i's residual to the residual. Must be called on every
  /// rank after finish() if the sum of tensor i is discarded.
  void restore_residual(std::size_t tensor);

  /// For Strategy::state(): residuals [ranks, elements], this rank's row of each, and factors. The
  /// names of residuals contain the number of ranks: a run on another number of ranks starts
  /// without residuals, since they belong to other virtual workers.
  std::vector<StateTensor> state();

 private:
  std::size_t bytes() const { return offsets_.back(); }
  std::span<std::byte> payload(int rank, std::size_t tensor) const;
  Buffer place_of_sum(std::size_t tensor) const;

  Communicator& world_;
  std::vector<Tensor> tensors_;
  std::optional<LowRankSum> low_rank_;  // replaces all that follows
  std::vector<Compressor> compressors_;
  std::vector<std::size_t> offsets_;  // of each payload in a rank's, and the end
  Buffer summed_;                     // of all tensors, if the codec has such a part
  std::vector<std::int64_t> sum_offsets_;
  std::vector<std::byte> own_;  // this rank's payloads then
  Memory memory_;               // summed_, or the payloads of all ranks
  std::vector<float> narrow_;
};

}  // namespace trireme
