#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "trireme/base/buffer.h"
#include "trireme/kernels/reduce.h"

namespace trireme {

enum class OpKind : std::uint8_t {
  kAllReduce,
  kReduceScatter,
  kAllGather,
  kAllToAll,
  kBroadcast,
  kReduce,
  kGather,
  kScatter,
  kSend,
  kRecv,
  kBarrier,
  kAllocate,
  kSplit,
};

std::string_view name_of(OpKind kind);

/// One call of a communicator, checked and ready for a backend to carry out.
struct Operation {
  OpKind kind = OpKind::kBarrier;
  Buffer in;                            ///< what is read; equal to `out` where the call is in place
  Buffer out;                           ///< what is written
  std::int64_t count = 0;               ///< elements of one rank's piece: what the ranks must agree on
  DType dtype = DType::kF32;
  ReduceOp op = ReduceOp::kSum;
  int root = 0;                         ///< root, or the peer of send and recv
  int tag = 0;
  const ReductionTree* tree = nullptr;  ///< of the reductions
};

/// "all_reduce(f32[1024], sum)": for errors and traces.
std::string describe(const Operation& operation);

}  // namespace trireme
