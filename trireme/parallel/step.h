#pragma once

#include <cstdint>
#include <string>

namespace trireme {

/// What a rank knows about a step before its first forward pass.
struct StepShape {
  /// Micro-batches (backward passes) of this rank; -1: one for each of its virtual workers. The
  /// virtual workers without a micro-batch, the last ones, count as zero.
  int passes = -1;
  /// What the sum of all losses and gradients is divided by: the samples or tokens of the whole
  /// step, over all ranks, the same value on each. 0: the number of virtual workers of the step.
  double weight = 0;
  /// What backward() multiplies the loss by, the same value on each rank. What autograd brings is
  /// divided by it at once: all that the strategy does and reports is without it.
  double loss_scale = 1;
  /// This rank asks all ranks to stop after a common step: StepResult::stop.
  bool request_stop = false;
  /// Left 0 by callers. Strategy::begin() writes here what has become of the model's values between
  /// the last step and this one: not 0 if they were changed, and the same number on ranks that have
  /// the same values.
  double changed_values = 0;
};

/// What a step has found before the parameters are updated.
struct GradientReport {
  /// The sum of the losses divided by the weight of the step. Of this rank's group where groups of
  /// ranks train independently.
  double loss = 0;
  /// The loss, every gradient and every changed buffer of the model are finite; the same on all
  /// ranks, or on those of the group. If not, update() throws DivergedError: the step can only end
  /// by skip_update() or abandon_step().
  bool is_finite = true;
  /// The first micro-batch of this rank whose loss or gradient is not finite; -1: none.
  int bad_micro_batch = -1;
  /// The first buffer that would have values that are not finite, and had not before; "": none.
  std::string bad_buffer = {};
};

/// When parameters of ranks that may differ are made equal. Strategies whose parameters are equal
/// after each step ignore it.
enum class Sync : std::uint8_t {
  kWhenDue,  ///< when the strategy does it anyway
  kIfFree,   ///< also now, unless the strategy will do it by itself in a later step
  kNow,      ///< after this step: it is the last one, or its parameters are needed at once
};

/// What a step has led to.
struct StepResult {
  /// As GradientReport::loss; over all ranks if this step has synchronized groups without overlap.
  double loss = 0;
  /// A rank has requested to stop. True on all ranks after the same step; where ranks are
  /// asynchronous, on the ranks of its group.
  bool stop = false;
  /// All ranks now have the same parameters, so that the model may be evaluated and saved.
  bool synchronized = true;
  /// Steps that the other ranks have made without this one, which must skip their samples.
  std::int64_t skipped_steps = 0;
};

}  // namespace trireme
