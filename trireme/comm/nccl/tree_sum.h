#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "trireme/base/buffer.h"
#include "trireme/kernels/reduce.h"

namespace trireme::nccl {

/// tree_reduce() (kernels/reduce.h) for memory of a device: out[i] = op over terms[t * stride + i],
/// t < term_count, in the order of the stack program `merges`, divided by `divisor`.
struct TreeSum {
  void* out = nullptr;  ///< may be one of the terms
  const void* terms = nullptr;
  std::int64_t stride = 0;      ///< elements from one term to the next
  const int* merges = nullptr;  ///< ReductionTree::merges(), on the device; null for one term
  int term_count = 0;
  double divisor = 1;
  std::int64_t count = 0;
  DType dtype = DType::kF32;
  ReduceOp op = ReduceOp::kSum;
};

/// Queues it on `stream`. All pointers are the device's.
void tree_sum(const TreeSum& sum, cudaStream_t stream);

}  // namespace trireme::nccl
