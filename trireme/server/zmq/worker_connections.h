#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>

#include "trireme/server/request.h"
#include "trireme/server/zmq/server_socket.h"
#include "trireme/server/zmq/zmq_server.h"

namespace trireme::server {

/// The workers that have joined: the connection of each, and when its last message came. Finds lost
/// workers. One thread.
class WorkerConnections {
 public:
  /// Both arguments outlive this.
  WorkerConnections(const ZmqServer::Options& options, ServerSocket& socket)
      : options_(options), socket_(socket) {}

  /// Why a client, whose key has that name, may not send `request`: it is one of a worker that has
  /// joined with another key and is still connected. Empty: it may. Without keys every client may.
  std::string refusal(const Request& request, const std::string& client_name) const;

  /// Notes that `request` has come, from a client whose key has that name; empty without keys.
  void note_request(const Request& request, const std::string& client_name);

  /// Notes who has joined or left, by the reply to `request`.
  void note_reply(const Request& request, const Message& reply);

  /// True if that incarnation of the worker has joined.
  bool has(std::uint32_t worker, std::uint64_t incarnation) const;

  /// The primary has declared the worker lost.
  void forget(std::uint32_t worker) { connections_.erase(worker); }

  /// This server has taken over: workers that have joined at the primary only are lost unless they
  /// connect here.
  void expect_all();

  /// Calls `lose` for each lost worker, after removing it.
  void find_lost(const std::function<void(std::uint32_t worker, const std::string& why)>& lose);

 private:
  using Time = std::chrono::steady_clock::time_point;

  struct Connection {
    std::uint64_t incarnation = 0;
    std::uint64_t from = 0;
    Time heard;
    Time probed;
    std::optional<Time> closed;              // when it was found closed
    std::optional<std::string> client_name;  // once the worker has sent a request to this server
  };

  std::string why_lost(std::uint32_t worker, Connection& connection, Time now);

  const ZmqServer::Options& options_;
  ServerSocket& socket_;
  std::map<std::uint32_t, Connection> connections_;
  std::string joining_;  // name of the client whose join is being handled
};

}  // namespace trireme::server
