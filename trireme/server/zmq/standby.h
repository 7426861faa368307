#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

#include "trireme/server/message.h"
#include "trireme/server/server.h"
#include "trireme/server/zmq/server_socket.h"
#include "trireme/server/zmq/worker_connections.h"
#include "trireme/server/zmq/zmq_server.h"

namespace trireme::server {

/// The replica's side of replication: applies the replication log of the primary that connects to
/// it, entry by entry, and takes over when a worker sends a request and the primary is gone. One
/// thread, except for is_waiting().
class Standby {
 public:
  /// `server` becomes the replica. All arguments outlive this.
  Standby(const ZmqServer::Options& options, Server& server, WorkerConnections& workers,
          ServerSocket& socket)
      : options_(options), server_(server), workers_(workers), socket_(socket) {}

  /// True until it takes over.
  bool is_waiting() const { return is_waiting_; }

  /// True if the primary uses, or has used, that connection.
  bool is_primary(std::uint64_t from) const { return primary_ && primary_->from == from; }

  /// Handles `request` and returns the reply; or returns nothing, and the server must handle the
  /// request: a ping, or a request for which this replica has just taken over. `sink` takes the
  /// replies to log entries, and must pass them to check_applied(). Requires is_waiting().
  std::optional<Message> reply(Request& request, ReplySink& sink);

  /// Throws CommError if `reply` says that this server could not apply an entry that the primary
  /// has applied: it is no replica any more.
  void check_applied(const Request& entry, const Message& reply) const;

 private:
  using Time = std::chrono::steady_clock::time_point;

  struct Primary {
    std::uint64_t incarnation = 0;
    std::uint64_t from = 0;
    std::uint64_t next_entry = 0;  // number of the next entry on its connection
    std::uint64_t applied = 0;     // entries
    Time heard;
  };

  Message replicate(const Request& request);
  std::string why_not(const Message& request, std::uint64_t applied) const;
  Message apply(Request entry, ReplySink& sink);
  bool primary_is_gone();
  void take_over();

  const ZmqServer::Options& options_;
  Server& server_;
  WorkerConnections& workers_;
  ServerSocket& socket_;
  std::optional<Primary> primary_;
  std::optional<std::uint64_t> applying_;  // sequence number of the entry's request
  std::atomic<bool> is_waiting_{true};
};

}  // namespace trireme::server
