#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>
#include <type_traits>

#include "trireme/comm/nccl/tree_sum.h"

// One element of a TreeSum, for the device and, in tests, for the CPU.
#if defined(__CUDACC__)
#define TRIREME_EVERYWHERE __host__ __device__
#else
#define TRIREME_EVERYWHERE
#endif

namespace trireme::nccl {

// How a type lies in memory and in which type it is computed.
template <class T>
struct Plain {
  using Stored = T;
  using Wide = T;
  TRIREME_EVERYWHERE static T load(T x) { return x; }
  TRIREME_EVERYWHERE static T store(T x) { return x; }
};

struct Half {
  using Stored = __half;
  using Wide = float;
  TRIREME_EVERYWHERE static float load(__half x) { return __half2float(x); }
  TRIREME_EVERYWHERE static __half store(float x) { return __float2half_rn(x); }
};

struct BFloat16 {
  using Stored = __nv_bfloat16;
  using Wide = float;
  TRIREME_EVERYWHERE static float load(__nv_bfloat16 x) { return __bfloat162float(x); }
  TRIREME_EVERYWHERE static __nv_bfloat16 store(float x) { return __float2bfloat16_rn(x); }
};

// As in kernels/reduce.cpp: a NaN wins, and of equal values the left one stays.
template <class T>
TRIREME_EVERYWHERE T combine(ReduceOp op, T left, T right) {
  switch (op) {
    case ReduceOp::kSum:
    case ReduceOp::kMean:
      break;
    case ReduceOp::kMin:
      return right < left || right != right ? right : left;
    case ReduceOp::kMax:
      return right > left || right != right ? right : left;
  }
  return static_cast<T>(left + right);
}

template <class Type>
TRIREME_EVERYWHERE void sum_element(const TreeSum& sum, std::int64_t i) {
  using Stored = typename Type::Stored;
  using Wide = typename Type::Wide;
  // ReductionTree pairs virtual workers as a binary counter does, whose digits are those of an int.
  Wide stack[32];
  int depth = 0;
  for (int term = 0; term < sum.term_count; ++term) {
    stack[depth++] = Type::load(static_cast<const Stored*>(sum.terms)[term * sum.stride + i]);
    const int merges = sum.merges ? sum.merges[term] : 0;
    for (int merge = 0; merge < merges; ++merge) {
      --depth;
      stack[depth - 1] = combine(sum.op, stack[depth - 1], stack[depth]);
    }
  }
  Wide result = stack[0];
  if constexpr (std::is_floating_point_v<Wide>) {
    if (sum.divisor != 1) result /= static_cast<Wide>(sum.divisor);
  }
  static_cast<Stored*>(sum.out)[i] = Type::store(result);
}

// Calls `visit` with the Type of a DType.
template <class Visit>
void with_type(DType dtype, Visit visit) {
  switch (dtype) {
    case DType::kF32:
      return visit(Plain<float>());
    case DType::kF64:
      return visit(Plain<double>());
    case DType::kF16:
      return visit(Half());
    case DType::kBF16:
      return visit(BFloat16());
    case DType::kI32:
      return visit(Plain<std::int32_t>());
    case DType::kI64:
      return visit(Plain<std::int64_t>());
    case DType::kU8:
      return visit(Plain<std::uint8_t>());
  }
}

}  // namespace trireme::nccl
