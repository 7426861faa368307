#include "trireme/checkpoint/pieces.h"

#include <algorithm>

namespace trireme {

std::vector<Range> pieces_of(const Range& elements, DType dtype) {
  const std::int64_t count = kPieceBytes / static_cast<std::int64_t>(size_of(dtype));
  std::vector<Range> pieces;
  for (std::int64_t begin = elements.begin; begin < elements.end;) {
    pieces.push_back({begin, begin + std::min(count, elements.end - begin)});
    begin = pieces.back().end;
  }
  return pieces;
}

Buffer PieceBuffer::buffer(std::int64_t count, DType dtype) {
  const Buffer piece{nullptr, count, dtype};
  memory_.resize(std::max(memory_.size(), (piece.bytes() + sizeof(double) - 1) / sizeof(double)));
  return {memory_.data(), count, dtype};
}

}  // namespace trireme
