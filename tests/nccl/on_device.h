#pragma once

#include <memory>

#include "trireme/comm/communicator.h"

namespace trireme::test {

/// A communicator that takes buffers of this process and calls `inner` with copies of them on this
/// thread's device, so that the suites of all communicators run on devices.
std::unique_ptr<Communicator> on_device(std::unique_ptr<Communicator> inner);

}  // namespace trireme::test
