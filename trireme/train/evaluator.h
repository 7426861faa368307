#pragma once

#include <cstdint>
#include <functional>
#include <optional>

#include "trireme/train/report.h"
#include "trireme/train/trainer.h"

namespace trireme {

/// Returns true once this rank is asked to stop.
using StopRequested = std::function<bool()>;

/// Evaluates the model of `trainer`, which must have evaluation data, after the steps that are
/// done. Collective over the trainer's SavingGroup; other ranks must not call it.
///
/// Each rank evaluates its part. The set is cut into the virtual workers, so that the sums have the
/// same bits on any number of ranks. Returns nothing, on all ranks, if one was asked to stop before
/// its last batch. The model is in training mode afterwards. Throws DivergedError if the loss is
/// not finite.
std::optional<EvaluationReport> evaluate(Trainer& trainer,
                                         const StopRequested& stop_requested = {});

}  // namespace trireme
