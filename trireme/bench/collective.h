#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "trireme/base/buffer.h"

namespace trireme::bench {

/// The operations that are measured. `kSend` is the ring of nccl-tests' sendrecv: every rank sends
/// to the next and receives from the one before, at once.
enum class Collective : std::uint8_t {
  kAllReduce,
  kAllGather,
  kReduceScatter,
  kBroadcast,
  kAllToAll,
  kSend,
};

/// "all-reduce", "all-gather", "reduce-scatter", "broadcast", "all-to-all", "send".
std::string_view name_of(Collective collective);
std::vector<std::string> collective_names();

/// Throws UsageError, with the nearest name, for an unknown word.
Collective collective_named(std::string_view name);

/// True for all-reduce and reduce-scatter, which sum.
bool reduces(Collective collective);

/// Throws UsageError for a word that is no type.
DType dtype_named(std::string_view name);

/// What one call moves, in the terms of nccl-tests.
struct Shape {
  std::int64_t count = 0;  ///< elements of one rank's piece; of the whole for all-reduce, broadcast
  std::int64_t in = 0;     ///< elements that a rank gives
  std::int64_t out = 0;    ///< elements that it gets
  std::int64_t bytes = 0;  ///< the column "size": the larger of the two
};

/// Returns the shape with the largest size up to `bytes`, and with at least one element a piece.
Shape shape_of(Collective collective, std::int64_t bytes, DType dtype, int ranks);

/// Returns bus bandwidth / algorithm bandwidth (nccl-tests, doc/PERFORMANCE.md): the part of `size`
/// that must cross the link of each rank, so that the figure can be compared with the speed of the
/// link at any number of ranks. 2(n-1)/n for all-reduce, (n-1)/n for all-gather, reduce-scatter and
/// all-to-all, 1 for broadcast and send.
double bus_factor(Collective collective, int ranks);

}  // namespace trireme::bench
