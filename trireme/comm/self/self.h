#pragma once

#include <memory>

#include "trireme/comm/communicator.h"

namespace trireme {

/// A world of one rank. Every operation works on ordinary memory and is done when it returns. A
/// recv() whose message has not been sent throws UsageError when it is waited for, because no other
/// rank can send it.
std::unique_ptr<Communicator> self_communicator();

}  // namespace trireme
