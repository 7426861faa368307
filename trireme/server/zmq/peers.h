#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>

#include "trireme/server/server.h"
#include "trireme/server/zmq/server_socket.h"
#include "trireme/server/zmq/zmq_server.h"

namespace trireme::server {

/// The workers that have joined: where each is, when it was last heard of, and so which are lost.
/// One thread.
class Peers {
 public:
  /// Both outlive it.
  Peers(const ZmqServer::Options& options, ServerSocket& socket)
      : options_(options), socket_(socket) {}

  /// `request` has come, from a client whose key has that name; empty without keys.
  void hear(const Request& request, const std::string& client_name);

  /// Who comes and who leaves, by what they are answered.
  void note(const Request& request, const Message& answer);

  /// Whether that life of the worker has joined.
  bool has(std::uint32_t worker, std::uint64_t life) const;

  /// The server that is followed has lost that one.
  void forget(std::uint32_t worker) { peers_.erase(worker); }

  /// From now on those who have only joined elsewhere are lost unless they show up here.
  void call_in();

  /// Calls `lose` for each that is lost, when it is one of these no more.
  void look_for_the_lost(
      const std::function<void(std::uint32_t worker, const std::string& why)>& lose);

 private:
  using Time = std::chrono::steady_clock::time_point;

  struct Peer {
    std::uint64_t life = 0;
    std::uint64_t from = 0;
    Time heard;
    Time probed;
    std::optional<Time> closed;              // found so
    std::optional<std::string> client_name;  // where it has said so to this server
  };

  std::string why_lost(std::uint32_t worker, Peer& peer, Time now);

  const ZmqServer::Options& options_;
  ServerSocket& socket_;
  std::map<std::uint32_t, Peer> peers_;
  std::string joining_;  // name of the client that joins just now
};

}  // namespace trireme::server
