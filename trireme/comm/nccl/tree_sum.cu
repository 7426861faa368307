#include "trireme/comm/nccl/tree_sum.h"

#include <algorithm>

#include "trireme/comm/nccl/cuda.h"
#include "trireme/comm/nccl/tree_sum-inl.h"

namespace trireme::nccl {

namespace {

constexpr int kThreads = 256;
constexpr std::int64_t kMaxBlocks = 4096;

template <class Type>
__global__ void sum_elements(TreeSum sum) {
  const std::int64_t step = std::int64_t{gridDim.x} * blockDim.x;
  for (std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < sum.count;
       i += step) {
    sum_element<Type>(sum, i);
  }
}

}  // namespace

void tree_sum(const TreeSum& sum, cudaStream_t stream) {
  if (sum.count == 0) return;
  const auto blocks =
      static_cast<unsigned>(std::min((sum.count + kThreads - 1) / kThreads, kMaxBlocks));
  with_type(sum.dtype,
            [&](auto type) { sum_elements<decltype(type)><<<blocks, kThreads, 0, stream>>>(sum); });
  cuda::check(cudaGetLastError(), "tree_sum");
}

}  // namespace trireme::nccl
