#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "trireme/base/buffer.h"
#include "trireme/base/partition.h"
#include "trireme/base/semantics.h"
#include "trireme/base/source_location.h"
#include "trireme/kernels/reduce.h"

namespace trireme {

/// What all ranks must agree on in one call. It can be copied between processes.
struct Call {
  OpKind kind = OpKind::kBarrier;
  DType dtype = DType::kF32;
  DeviceKind device = DeviceKind::kCpu;  ///< where the data lies
  ReduceOp op = ReduceOp::kSum;          ///< never kMean: that is kSum with a divisor
  std::int32_t root = 0;                 ///< root, or the peer of send and recv
  std::int32_t tag = 0;
  std::int32_t virtual_workers = 0;  ///< of a reduction; 0: one per rank
  /// A hash of the virtual workers of each rank and of the sizes of uneven pieces. In an uneven
  /// all_to_all: a number for each piece that the rank sends, minus one for each piece that it
  /// expects; the sum over all ranks is 0, modulo 2^32, if they agree.
  std::uint32_t layout = 0;
  bool uneven = false;   ///< pieces have different sizes
  bool is_note = false;  ///< a message between device lanes, matched with its like alone
  /// Elements of one rank's piece, or of the longest if pieces are uneven. In an uneven all_to_all:
  /// all elements that this rank sends.
  std::int64_t count = 0;
  double divisor = 1;  ///< of the sum that a reduction takes

  bool operator==(const Call&) const = default;
};

/// Returns true if each rank has its own counts (an uneven all_to_all).
inline bool has_own_counts(const Call& call) {
  return call.uneven && call.kind == OpKind::kAllToAll;
}

/// "all_reduce(f32[1024], sum)": for errors and traces.
std::string describe(const Call& call);

/// The place of a call. It can be copied between processes.
struct CallSite {
  std::int32_t line = 0;  ///< 0: unknown
  char file[44] = {};     ///< the end of the path, zero-terminated
  char caller[24] = {};   ///< the function that was called there, zero-terminated; may be empty

  CallSite() = default;
  explicit CallSite(SourceLocation where);
};

/// "all_reduce(f32[1024], sum) at train.cpp:31", or "... in update() at train.cpp:31".
std::string describe(const Call& call, const CallSite& site);

/// One rank's call.
struct CallOfRank {
  int rank = 0;
  const Call& call;
  const CallSite& site;
};

/// Throws a UsageError, the same on every rank, if the ranks' calls do not agree. `number` is that
/// of the operation.
///
///     all_reduce mismatch: rank 0 called A at a.cpp:1, rank 2 called B at b.cpp:2: all ranks must
///     make the same calls in the same order (operation 17)
void require_agreement(std::span<const CallOfRank> calls, std::uint64_t number);

/// The ranges of pieces of different sizes in the buffers of one rank, by the rank that they are
/// for or from. Empty for a buffer without pieces.
struct Pieces {
  std::vector<Range> in;
  std::vector<Range> out;
};

/// What a backend reports about the send that a recv was matched with.
struct MatchedSend {
  bool is_matched = false;
  DeviceKind device = DeviceKind::kCpu;
  std::uint64_t number = 0;  ///< among the messages from devices that the sender sent to this rank
};

/// One call of a communicator, checked and ready for a backend to execute.
struct Operation : Call {
  Buffer in;                             ///< what is read; equal to `out` if the call is in place
  Buffer out;                            ///< what is written
  const ReductionTree* tree = nullptr;   ///< of the reductions
  SourceLocation where;                  ///< of the call
  std::shared_ptr<const Pieces> pieces;  ///< of uneven calls; null: `count` elements each
  std::shared_ptr<MatchedSend> sender;   ///< of a recv: to be filled in once it is matched
  std::chrono::milliseconds timeout{0};  ///< of this call; 0: the communicator's

  /// The elements of a row of `in`, and of `out`, that are for or from `rank`.
  Range in_piece(int rank) const {
    return pieces ? pieces->in[rank] : Range{rank * count, (rank + 1) * count};
  }
  Range out_piece(int rank) const {
    return pieces ? pieces->out[rank] : Range{rank * count, (rank + 1) * count};
  }
};

}  // namespace trireme
