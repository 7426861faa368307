#pragma once

#include "trireme/train/report.h"
#include "trireme/train/trainer.h"

namespace trireme {

/// Fills in what a run of a transformer computes (RunDescription::flops_per_sample) and what its
/// ranks could (peak_flops): each multiplies matrices of the model's shapes for some milliseconds,
/// all at the same time. Collective. Does nothing for other models.
void describe_arithmetic(Trainer& trainer, RunDescription& run);

}  // namespace trireme
