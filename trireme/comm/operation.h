#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "trireme/base/buffer.h"
#include "trireme/base/where.h"
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
  Device device = Device::kCpu;  ///< where the data lies
  ReduceOp op = ReduceOp::kSum;  ///< never kMean: that is kSum with a divisor
  std::int32_t root = 0;         ///< root, or the peer of send and recv
  std::int32_t tag = 0;
  std::int32_t leaves = 0;  ///< virtual workers of a reduction; 0: one per rank
  double divisor = 1;       ///< of the sum that a reduction takes
  /// A hash of what the ranks must agree on beside: which virtual workers each rank has.
  std::uint64_t layout = 0;
  std::int64_t count = 0;   ///< elements of one rank's piece

  bool operator==(const Call&) const = default;
};

/// "all_reduce(f32[1024], sum)": for errors and traces.
std::string describe(const Call& call);

/// Where a call was made; fit to be copied between processes.
struct CallSite {
  std::int32_t line = 0;  ///< 0: unknown
  char file[44] = {};     ///< the end of the path, zero-terminated

  CallSite() = default;
  explicit CallSite(Where where);
};

/// "all_reduce(f32[1024], sum) at train.cpp:31".
std::string describe(const Call& call, const CallSite& site);

/// The UsageError of ranks whose calls differ, the same on every rank.
///
///     all_reduce mismatch: rank 0 called A at a.cpp:1, rank 2 called B at b.cpp:2: all ranks must
///     make the same calls in the same order (operation 17)
struct CallOfRank {
  int rank = 0;
  const Call& call;
  const CallSite& site;
};
[[noreturn]] void throw_mismatch(CallOfRank first, CallOfRank other, std::uint64_t number);

/// One call of a communicator, checked and ready for a backend to carry out.
struct Operation : Call {
  Buffer in;                            ///< what is read; equal to `out` where the call is in place
  Buffer out;                           ///< what is written
  const ReductionTree* tree = nullptr;  ///< of the reductions
  Where where;                          ///< the call was made
};

/// Rows or pieces of `operation.count` elements in the buffer of `rank` of `ranks`.
int units_of(const Operation& operation, int ranks, int rank);

/// The most that any rank has: what all know alike.
int most_units(const Operation& operation, int ranks);

}  // namespace trireme
