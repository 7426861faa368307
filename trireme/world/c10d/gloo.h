#pragma once

#include <memory>

#include "trireme/comm/message/transport.h"
#include "trireme/world/c10d/rendezvous.h"

namespace trireme::c10d {

/// Connects the ranks of a rendezvous by libtorch's Gloo over TCP:
///
///     Rendezvous rendezvous;
///     rendezvous.rank = 1;
///     rendezvous.world_size = 2;
///     rendezvous.master_address = "10.0.0.1";
///     std::unique_ptr<message::Transport> transport = gloo(rendezvous);
///
/// Throws UsageError if the port is in use, if ranks differ in world size or version of trireme, or
/// if two claim the same rank; CommError if rank 0 cannot be reached or a rank is missing, at most
/// some seconds after the timeout. All ranks that have connected throw the same text.
///
/// Threads: two for each peer's frames, one for deadlines, and Gloo's own; none of them handles
/// signals. If a transfer is abandoned in the middle of a message, later chunks between these two
/// ranks fail at their deadlines, and a thread of Gloo is busy until the transport is destroyed;
/// frames are not affected. The destructor waits at most two seconds for frames to be sent. If a
/// thread cannot be ended then, it and its connections remain until the process ends.
std::unique_ptr<message::Transport> gloo(const Rendezvous& rendezvous);

}  // namespace trireme::c10d
