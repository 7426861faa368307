#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "trireme/kernels/reduction_tree.h"
#include "trireme/model/model.h"
#include "trireme/parallel/gradients/scatter.h"
#include "trireme/parallel/sharded.h"

namespace trireme {

/// How a sharded model's gradients are spread over `parts` ranks. `gathers`: parameters are
/// gathered block by block; those that the same blocks use are then a unit.
GradientParts parts_of(const Model& model, const ShardingOptions& sharding, int parts, int part,
                       bool gathers);

/// The buckets that hold parameters of each block, ascending.
std::vector<std::vector<std::size_t>> buckets_of_blocks(const Model& model,
                                                        const BucketLayout& layout);

/// What a rank of a step holds for a while, in bytes.
struct ShardedTemporaries {
  std::int64_t buckets = 0;   ///< gradients on their way: stages 2 and 3, one micro-batch a rank
  std::int64_t gathered = 0;  ///< parameters of a block and of the next one
};
ShardedTemporaries sharded_temporaries(const Model& model, const ShardingOptions& sharding,
                                       const ReductionTree& tree, std::int64_t bucket_bytes,
                                       int rank, bool gathers);

}  // namespace trireme
