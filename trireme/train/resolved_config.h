#pragma once

#include "trireme/config/config.h"
#include "trireme/train/trainer.h"

namespace trireme {

/// Returns the configuration with which the run of `trainer` can be resumed from any folder: with
/// the columns that were found, and absolute paths of files.
Config resolved_config(const Trainer& trainer);

}  // namespace trireme
