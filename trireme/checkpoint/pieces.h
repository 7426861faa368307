#pragma once

#include <cstdint>
#include <vector>

#include "trireme/base/buffer.h"
#include "trireme/base/partition.h"

namespace trireme {

/// Elements of a tensor are read in pieces of at most so many bytes: a tensor need not fit into
/// memory.
inline constexpr std::int64_t kPieceBytes = 4 << 20;

/// Returns the pieces of `elements`, in order.
std::vector<Range> pieces_of(const Range& elements, DType dtype);

/// Memory for one piece at a time.
class PieceBuffer {
 public:
  /// Returns memory for `count` elements, in place of what it returned before.
  Buffer buffer(std::int64_t count, DType dtype);

 private:
  std::vector<double> memory_;  // aligned for every type
};

}  // namespace trireme
