#pragma once

#include <cstdint>
#include <memory>

#include "trireme/comm/communicator.h"
#include "trireme/comm/message/group.h"

namespace trireme {

/// A number that processes have in common if they can share memory: they run on one host, in one
/// network namespace.
std::uint64_t host_of_this_process();

/// The communicator of all ranks of `transport`, using shared memory wherever ranks have the same
/// `host`. Collective.
///
/// - One host: shared memory alone; the transport only brings the ranks together.
/// - Several hosts with ranks that are consecutive on each: reductions, all_gather and broadcast go
///   through shared memory inside a host, and every rank of a host carries its share of the data to
///   the others. Sums are taken in the order of the ReductionTree, hosts or not. Everything else
///   goes from rank to rank. allocate() gives memory that the ranks of a host see.
/// - Otherwise every message goes from rank to rank: message::Group.
std::unique_ptr<Communicator> hierarchical(std::unique_ptr<message::Transport> transport,
                                           message::Options options = {},
                                           std::uint64_t host = host_of_this_process());

}  // namespace trireme
