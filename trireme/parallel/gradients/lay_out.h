#pragma once

#include <cstdint>

#include "trireme/kernels/reduction_tree.h"
#include "trireme/parallel/gradients/bucket_layout.h"
#include "trireme/parallel/gradients/bucket_memory.h"
#include "trireme/parallel/gradients/scatter.h"
#include "trireme/tensor/named_tensors.h"

namespace trireme {

/// The buckets of the parameters that require a gradient, numbered in their order. `parts`: how
/// sums are spread over ranks, or null.
BucketLayout lay_out(const NamedTensors& model, const ReductionTree& tree,
                     std::int64_t bucket_bytes, const GradientParts* parts = nullptr);

/// How the buckets' memory is used: places can be reused if each rank has one micro-batch and sums
/// go elsewhere.
BucketMemory::Mode memory_mode_of(const BucketLayout& layout, const ReductionTree& tree,
                                  const GradientParts* parts = nullptr);

}  // namespace trireme
