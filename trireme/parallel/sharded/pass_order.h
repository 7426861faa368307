#pragma once

#include <cstdint>

namespace trireme {

/// The order in which the blocks of a model are used: in a step `passes` times forward from the
/// first to the last block and backward again; outside of steps forward passes.
class PassOrder {
 public:
  /// Counts the uses of blocks in a step, from 0.
  using Place = std::int64_t;
  static constexpr int kNone = -1;

  PassOrder(int blocks, int passes) : blocks_(blocks), passes_(passes) {}

  void begin_step() {
    is_step_open_ = true;
    place_ = 0;
  }
  void end_step() { is_step_open_ = false; }
  bool is_step_open() const { return is_step_open_; }

  /// Where the step is; where it ends.
  Place place() const { return place_; }
  Place end() const { return 2 * std::int64_t{blocks_} * passes_; }

  /// The next place at which `block` is used in a forward or a backward pass. Throw UsageError if
  /// the step has no such place any more: the passes came in another order.
  Place forward(int block) const;
  Place backward(int block) const;
  int block_at(Place place) const;

  /// The block at `place` is in use now.
  void advance(Place place) { place_ = place + 1; }
  /// The block that is used after `block`; kNone: the step or the pass ends with it.
  int next_block(int block) const;

 private:
  Place next_at(int offset) const;

  int blocks_;
  int passes_;
  bool is_step_open_ = false;
  Place place_ = 0;
};

}  // namespace trireme
