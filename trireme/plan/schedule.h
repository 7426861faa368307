#pragma once

#include <cstdint>
#include <vector>

namespace trireme::plan {

/// What a stage computes next.
struct Action {
  enum class Kind : std::uint8_t { kForward, kBackward };

  Kind kind = Kind::kForward;
  int micro_batch = 0;  ///< of this rank, counted from 0

  bool operator==(const Action&) const = default;
};

/// The order in which each stage of a pipeline computes the micro-batches of a step, as data: a
/// planner adds up its costs, a simulator plays it, and a StepRunner executes it. Plain training is
/// the schedule of one stage.
///
/// Pipelines will add: generators of schedules with several stages (GPipe, 1F1B, zero bubble),
/// actions that send and receive activations and their gradients, and backward actions that compute
/// the gradients of inputs and of weights apart.
struct Schedule {
  std::vector<std::vector<Action>> stages;
};

/// Returns the schedule of one stage: for each micro-batch its forward pass, then its backward
/// pass.
Schedule single_stage(int micro_batches);

/// Throws UsageError, naming the stage and the micro-batch, unless every stage computes every
/// micro-batch once forward and then once backward, the backward passes in ascending order: the
/// order in which gradients are summed.
void check(const Schedule& schedule, int micro_batches);

}  // namespace trireme::plan
