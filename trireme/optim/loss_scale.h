#pragma once

#include <cstdint>

namespace trireme {

/// What the loss is multiplied by before a backward pass in f16, so that small gradients do not
/// become 0 (Micikevicius et al. 2018). A power of two: dividing by it again loses nothing. The
/// scale doubles after a number of steps in which no gradient overflowed, and is halved after one
/// in which one did.
class LossScale {
 public:
  struct State {
    double scale = 65536;
    std::int64_t steps = 0;  ///< since the scale has changed, or the last step that overflowed
  };

  /// `initial`: a power of two, at least 1. `growth_steps`: after which the scale doubles.
  LossScale(double initial, std::int64_t growth_steps)
      : state_{.scale = initial}, growth_steps_(growth_steps) {}

  double value() const { return state_.scale; }
  /// A gradient that is not finite with the smallest scale, 1, has not overflowed by scaling.
  bool can_fall() const { return state_.scale > 1; }

  /// After a step whose gradients have overflowed, and which is skipped.
  void fall() { state_ = {.scale = state_.scale > 2 ? state_.scale / 2 : 1}; }

  /// After a step whose gradients were finite.
  void count() {
    constexpr double kLargest = 16777216;  // 2^24: more would overflow a loss near 2^104
    if (++state_.steps < growth_steps_ || state_.scale >= kLargest) return;
    state_ = {.scale = 2 * state_.scale};
  }

  const State& state() const { return state_; }
  void restore(const State& state) { state_ = state; }

 private:
  State state_;
  std::int64_t growth_steps_;
};

}  // namespace trireme
