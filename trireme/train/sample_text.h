#pragma once

#include <string>

#include "trireme/train/trainer.h"

namespace trireme {

/// Returns some text that the model of `trainer` writes, a function of its values and of the run's
/// seed; "" if its samples are no tokens or it cannot compute a part of a sample. The model is in
/// evaluation mode afterwards.
std::string sample_text(Trainer& trainer);

}  // namespace trireme
