#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <vector>
#include <zmq.hpp>

#include "trireme/server/message.h"
#include "trireme/server/server.h"
#include "trireme/server/zmq/keys.h"
#include "trireme/server/zmq/replica_link.h"
#include "trireme/server/zmq/zmq_server.h"

namespace trireme::server {

/// The primary's side of replication: sends the replication log to the replica, and holds replies
/// back until the replica has applied every change that they depend on. One thread.
///
///     if (replication.is_acknowledged()) { send(...); } else { replication.hold(...); }
class Replication {
 public:
  using Send = std::function<void(std::uint64_t to, const Message& reply,
                                  std::vector<zmq::message_t> bodies)>;

  /// Sets the replication log of `server`. Throws UsageError for an invalid address, or one that
  /// needs keys if there are none, DataError for a key that cannot be read.
  Replication(zmq::context_t& context, const ZmqServer::Options& options, const KeyPair& keys,
              Server& server);

  /// True if the replica has applied the whole log, or has been given up.
  bool is_acknowledged() const { return link_.has(link_.appended()); }

  /// True if the replica was away for too long, and is not up to date any more.
  bool is_given_up() const { return link_.is_given_up(); }

  /// Sends `reply` once the replica has applied the log as it is now.
  void hold(std::uint64_t to, const Message& reply, std::vector<zmq::message_t> bodies);

  void add_poll_items(std::vector<zmq::pollitem_t>& items) { link_.add_poll_items(items); }

  /// Reads acknowledgments and sends the replies that they release, in the order in which they were
  /// held; never waits. Throws what ReplicaLink::poll() throws.
  void poll(const Send& send);

 private:
  struct Held {
    std::uint64_t entry = 0;  // that the replica must have applied
    std::uint64_t to = 0;
    Message reply;
    std::vector<zmq::message_t> bodies;
  };

  ReplicaLink link_;
  std::deque<Held> held_;
};

}  // namespace trireme::server
