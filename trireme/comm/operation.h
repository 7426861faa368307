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

/// What all ranks must agree on in one call; fit to be copied between processes.
struct Call {
  OpKind kind = OpKind::kBarrier;
  DType dtype = DType::kF32;
  ReduceOp op = ReduceOp::kSum;
  std::int32_t root = 0;  ///< root, or the peer of send and recv
  std::int32_t tag = 0;
  std::int32_t leaves = 0;  ///< virtual workers of a reduction; 0 means one a rank
  std::int64_t count = 0;   ///< elements of one rank's piece

  bool operator==(const Call&) const = default;
};

/// "all_reduce(f32[1024], sum)": for errors and traces.
std::string describe(const Call& call);

/// One call of a communicator, checked and ready for a backend to carry out.
struct Operation : Call {
  Buffer in;                            ///< what is read; equal to `out` where the call is in place
  Buffer out;                           ///< what is written
  const ReductionTree* tree = nullptr;  ///< of the reductions
};

}  // namespace trireme
