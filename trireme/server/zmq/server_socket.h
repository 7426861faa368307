#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <optional>
#include <set>
#include <string>
#include <vector>
#include <zmq.hpp>

#include "trireme/server/zmq/keys.h"
#include "trireme/server/zmq/monitor.h"
#include "trireme/server/zmq/rejection_log.h"
#include "trireme/server/zmq/zap_authenticator.h"
#include "trireme/server/zmq/zmq_server.h"

namespace trireme::server {

/// The socket of a server: accepts connections, receives whole messages and sends replies. Frames
/// that cannot be a message of trireme are rejected here. One thread, except for connections().
class ServerSocket {
 public:
  /// A received message of at least one frame.
  struct Incoming {
    std::uint64_t from = 0;   ///< the connection
    std::string client_name;  ///< name of its key; empty without keys
    std::vector<zmq::message_t> frames;
  };
  using Handler = std::function<void(Incoming incoming)>;

  /// Listens. All arguments outlive the socket. Throws UsageError for an address that cannot be
  /// bound, DataError for keys that cannot be read.
  ServerSocket(zmq::context_t& context, const ZmqServer::Options& options,
               RejectionLog& rejections);

  const std::string& endpoint() const { return endpoint_; }
  const KeyPair& keys() const { return keys_; }
  int connections() const { return connections_; }

  void add_poll_items(std::vector<zmq::pollitem_t>& items);

  /// Receives one message and calls `handler`, unless the message is rejected; never waits. Returns
  /// false if there was none.
  bool receive_one(const Handler& handler);

  /// Handles connections that were made, rejected or closed; never waits.
  void poll_connections();

  /// Never waits: if a message cannot be sent, the receiver reconnects and repeats its request.
  /// Returns false if the connection has closed.
  bool send(std::uint64_t to, const std::string& header, std::vector<zmq::message_t> bodies = {});

  /// Sends `worker` an empty reply. Returns false if the connection has closed.
  bool probe(std::uint64_t to, std::uint32_t worker);

 private:
  void configure();
  void reject_size(std::uint64_t from, const zmq::message_t& header, std::size_t bytes);
  void on_event(std::uint16_t event, std::uint32_t value);

  const ZmqServer::Options& options_;
  RejectionLog& rejections_;
  KeyPair keys_;
  std::optional<ZapAuthenticator> authenticator_;
  zmq::socket_t socket_;
  std::string endpoint_;
  std::optional<Monitor> monitor_;
  std::set<std::uint32_t> open_;  // connections, by descriptor
  std::atomic<int> connections_{0};
};

}  // namespace trireme::server
