#include "trireme/parallel/sharded/pass_order.h"

#include <fmt/format.h>

#include "trireme/base/error.h"
#include "trireme/base/text.h"

namespace trireme {

PassOrder::Place PassOrder::next_at(int offset) const {
  const Place length = 2 * std::int64_t{blocks_};
  Place next = place_ / length * length + offset;
  if (next < place_) next += length;
  if (next < end()) return next;
  throw UsageError(fmt::format(
      "strategy sharded: a step of {} has no more use for a {} pass of block {}: with stage 3 "
      "between hosts each forward pass through all blocks must be followed by its backward pass, "
      "and a step has at most as many as the rank with the most virtual workers",
      counted(passes_, "forward and backward pass"), offset < blocks_ ? "forward" : "backward",
      offset < blocks_ ? offset : length - 1 - offset));
}

PassOrder::Place PassOrder::forward(int block) const {
  return is_step_open_ ? next_at(block) : 0;
}

PassOrder::Place PassOrder::backward(int block) const {
  return is_step_open_ ? next_at(2 * blocks_ - 1 - block) : 0;
}

int PassOrder::block_at(Place place) const {
  const auto offset = static_cast<int>(place % (2 * std::int64_t{blocks_}));
  return offset < blocks_ ? offset : 2 * blocks_ - 1 - offset;
}

int PassOrder::next_block(int block) const {
  if (is_step_open_) return place_ < end() ? block_at(place_) : kNone;
  return block + 1 < blocks_ ? block + 1 : kNone;
}

}  // namespace trireme
