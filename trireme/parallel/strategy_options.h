#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "trireme/kernels/compress.h"
#include "trireme/kernels/reduction_tree.h"

namespace trireme {

/// What becomes of a buffer of the model (running statistics, counters) that micro-batches change.
enum class BufferUpdate : std::uint8_t {
  kMean,   ///< the mean of their changes, rounded for integers; bool: as kFirst
  kFirst,  ///< what the first virtual worker, on rank 0, has made of it
};

/// Options that all strategies have.
struct StrategyOptions {
  /// Virtual workers of a step over all ranks, at least one for each rank; 0: one for each rank.
  /// Their gradients are summed in the order of ReductionTree, so that the same number gives the
  /// same bits on any number of ranks.
  int virtual_workers = 0;
  /// Load balancing for ranks of unequal speed: one weight for each rank, in proportion to which it
  /// is assigned virtual workers; empty: evenly. The bits of synchronous strategies do not depend
  /// on it.
  std::vector<double> shares = {};
  /// Gradients are communicated in buckets of about this size, overlapped with backward.
  std::int64_t bucket_bytes = std::int64_t{1} << 20;
  /// How gradients are compressed before they are sent. With a codec the bits depend on the number
  /// of ranks: each rank compresses the sum over its own virtual workers.
  CompressionOptions compression = {};
  /// Buffers that no micro-batch changes keep their bits in any case, and cost nothing.
  BufferUpdate buffers = BufferUpdate::kMean;
};

/// Returns which virtual workers each of `ranks` ranks has. Throws UsageError if there are fewer
/// virtual workers than ranks, or if the shares are not one finite number above 0 for each rank.
ReductionTree tree_of(const StrategyOptions& options, int ranks);

/// For a strategy that sends no gradients to compress: throws UsageError for any codec but "none".
void require_no_codec(const StrategyOptions& options, std::string_view strategy,
                      std::string_view reason);

}  // namespace trireme
