#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

#include "trireme/server/message.h"
#include "trireme/server/server.h"
#include "trireme/server/zmq/peers.h"
#include "trireme/server/zmq/server_socket.h"
#include "trireme/server/zmq/zmq_server.h"

namespace trireme::server {

/// A backup's part: it follows the server that asks it to, entry by entry of that one's journal,
/// and takes over when a worker wants something and that server is gone. One thread, but for
/// is_waiting().
class Standby {
 public:
  /// `server` becomes the copy. All outlive it.
  Standby(const ZmqServer::Options& options, Server& server, Peers& peers, ServerSocket& socket)
      : options_(options), server_(server), peers_(peers), socket_(socket) {}

  /// It has not taken over.
  bool is_waiting() const { return is_waiting_; }

  /// Whether the server that it follows, or has followed, is at that connection.
  bool follows(std::uint64_t from) const { return primary_ && primary_->from == from; }

  /// Requires is_waiting(). Deals with `request` and returns what it is replied; or returns nothing
  /// and leaves it to the server: a ping, or one for which it has taken over. `answers` hears what
  /// the server answers kNobody, which is check_followed()'s.
  std::optional<Message> reply(Request& request, Answers& answers);

  /// What the server has done can be done here too; else this is no copy of it any more, and
  /// CommError is thrown.
  void check_followed(const Request& entry, const Message& answer) const;

 private:
  using Time = std::chrono::steady_clock::time_point;

  // Whom it follows.
  struct Primary {
    std::uint64_t life = 0;
    std::uint64_t from = 0;
    std::uint64_t next = 0;  // number of the entry that comes next on its connection
    std::uint64_t done = 0;
    Time heard;
  };

  Message follow(const Request& request);
  std::string why_not(const Message& request, std::uint64_t done) const;
  Message follow_entry(Request entry, Answers& answers);
  bool primary_is_gone();
  void take_over();

  const ZmqServer::Options& options_;
  Server& server_;
  Peers& peers_;
  ServerSocket& socket_;
  std::optional<Primary> primary_;
  std::optional<std::uint64_t> following_;  // sequence number of the entry's request
  std::atomic<bool> is_waiting_{true};
};

}  // namespace trireme::server
