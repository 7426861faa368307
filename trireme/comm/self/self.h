#pragma once

#include <memory>

#include "trireme/comm/communicator.h"

namespace trireme {

/// A world of one rank: every operation works, on ordinary memory, and is done when it returns.
/// A recv() that waits for a message never sent throws UsageError: nobody else could send it.
std::unique_ptr<Communicator> self_communicator();

}  // namespace trireme
