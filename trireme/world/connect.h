#pragma once

#include <memory>

#include "trireme/comm/communicator.h"
#include "trireme/launch/environment.h"

namespace trireme {

/// The communicator of all ranks, found through the environment of whoever started this process:
/// the shared memory of `trireme run` or `trireme train`, or a world of one where there is nobody
/// else.
///
///     auto world = trireme::connect();
///     world->all_reduce(gradients).wait();
///
/// Call it once a process. Throws UsageError if the environment makes no sense, or names ranks that
/// were started by a launcher whose communication this build does not have.
std::unique_ptr<Communicator> connect();

/// The same for an environment already read.
std::unique_ptr<Communicator> connect(const RankEnvironment& environment);

}  // namespace trireme
