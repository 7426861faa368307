#pragma once

#include <string>

#include "trireme/base/buffer.h"
#include "trireme/base/region.h"

namespace trireme {

/// A named tensor of a run's state, or the region of it that this rank holds: what model, optimizer
/// and strategy give to a checkpoint and get back from one.
struct StateTensor {
  std::string name;
  Region region;
  Buffer values;           ///< region.count() elements, in the region's order
  bool is_written = true;  ///< false if another rank holds the same region and writes it
};

}  // namespace trireme
