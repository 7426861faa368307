#pragma once

#include <memory>

#include "trireme/comm/message/transport.h"
#include "trireme/world/c10d/rendezvous.h"

namespace trireme::c10d {

/// Gloo over TCP, from libtorch: joins the ranks that meet at the rendezvous.
///
///     Rendezvous rendezvous;
///     rendezvous.rank = 1;
///     rendezvous.world_size = 2;
///     rendezvous.master_address = "10.0.0.1";
///     std::unique_ptr<message::Transport> transport = gloo(rendezvous);
///
/// Throws UsageError if the port is in use, if ranks differ in world size or version of trireme or
/// claim the same rank, CommError if rank 0 cannot be reached or a rank does not come; at most some
/// seconds after the timeout, and with the same sentence on all ranks that are there.
///
/// Threads: two a peer for frames, one for deadlines, and Gloo's own; none of them takes signals.
/// A transfer that is given up in the midst of a message leaves the chunks of these two ranks
/// blocked, what they move later ends at its deadline, and a thread of Gloo's busy until the
/// transport is destroyed; frames go their own way. The destructor waits two seconds at most for
/// frames under way to leave. If Gloo does not let go of a thread, it and its connections are left
/// to the end of the process.
std::unique_ptr<message::Transport> gloo(const Rendezvous& rendezvous);

}  // namespace trireme::c10d
