#pragma once

#include <cstdint>
#include <memory>

#include "trireme/comm/communicator.h"
#include "trireme/comm/message/group.h"

namespace trireme {

/// A number that is equal in processes that can share memory: those of one host and one set of
/// namespaces.
std::uint64_t host_of_this_process();

/// The communicator of all ranks of `transport`, using shared memory wherever ranks have the same
/// `host`. Collective.
///
/// - One host: shared memory alone; the transport only brings the ranks together.
/// - Several hosts with ranks that are consecutive on each: reductions, all_gather and broadcast go
///   through shared memory inside a host, and every rank of a host sends its share of the data to
///   the other hosts. Sums are taken in the order of the ReductionTree in any case. Everything else
///   goes from rank to rank. allocate() returns memory that the ranks of a host see.
/// - Otherwise everything goes from rank to rank: message::Group.
std::unique_ptr<Communicator> hierarchical(std::unique_ptr<message::Transport> transport,
                                           message::Options options = {},
                                           std::uint64_t host = host_of_this_process());

}  // namespace trireme
