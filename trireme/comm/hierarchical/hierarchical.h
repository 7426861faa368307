#pragma once

#include <cstdint>
#include <memory>

#include "trireme/comm/communicator.h"
#include "trireme/comm/message/group.h"

namespace trireme {

/// Returns a number that is equal in processes that can share memory, which are those of one host
/// and one set of namespaces.
std::uint64_t host_of_this_process();

/// Returns the communicator of all ranks of `transport`, using shared memory between ranks with the
/// same `host`. Collective.
///
/// - One host: only shared memory is used; the transport connects the ranks.
/// - Several hosts with consecutive ranks on each: reductions, all_gather and broadcast move
/// through shared memory inside a host, and leaders of each host exchange data with the other
/// hosts. Sums are taken in the order of the ReductionTree. All other operations move from rank to
/// rank. allocate() returns memory that the ranks of a host share.
/// - Otherwise every operation moves from rank to rank: message::Group.
std::unique_ptr<Communicator> hierarchical(std::unique_ptr<message::Transport> transport,
                                           message::Options options = {},
                                           std::uint64_t host = host_of_this_process());

}  // namespace trireme
