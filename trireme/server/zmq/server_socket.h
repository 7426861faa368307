#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <optional>
#include <set>
#include <string>
#include <vector>
#include <zmq.hpp>

#include "trireme/server/zmq/doorkeeper.h"
#include "trireme/server/zmq/keys.h"
#include "trireme/server/zmq/monitor.h"
#include "trireme/server/zmq/refusals.h"
#include "trireme/server/zmq/zmq_server.h"

namespace trireme::server {

/// Where a server listens: who comes in, whole messages from them, and answers to them. What cannot
/// be a message of trireme's ends here. One thread, but for connections().
class ServerSocket {
 public:
  /// A message as it came: at least a head.
  struct Incoming {
    std::uint64_t from = 0;   ///< the connection
    std::string client_name;  ///< of its key; empty without keys
    std::vector<zmq::message_t> frames;
  };
  using Handler = std::function<void(Incoming incoming)>;

  /// Listens. All that is passed in outlives it. Throws UsageError for an address that cannot be
  /// bound, DataError for keys that cannot be read.
  ServerSocket(zmq::context_t& context, const ZmqServer::Options& options, Refusals& refusals);

  const std::string& endpoint() const { return endpoint_; }
  const KeyPair& keys() const { return keys_; }
  int connections() const { return connections_; }

  void add_poll_items(std::vector<zmq::pollitem_t>& items);

  /// Takes one message out and hands it over, unless it is refused; never waits. False if nothing
  /// has come.
  bool take_one(const Handler& handler);

  /// Sees who has connected, has been turned away and has gone; never waits.
  void look();

  /// Never waits: what does not go out is asked for again, by whoever has reconnected. False if
  /// nobody is there any more.
  bool send(std::uint64_t to, const std::string& head, std::vector<zmq::message_t> bodies = {});

  /// Sends `worker` a sign of life. False if nobody is there any more.
  bool probe(std::uint64_t to, std::uint32_t worker);

 private:
  void configure();
  void refuse_size(std::uint64_t from, const zmq::message_t& head, std::size_t bytes);
  void see(std::uint16_t event, std::uint32_t value);

  const ZmqServer::Options& options_;
  Refusals& refusals_;
  KeyPair keys_;
  std::optional<Doorkeeper> doorkeeper_;
  zmq::socket_t socket_;
  std::string endpoint_;
  std::optional<Monitor> monitor_;
  std::set<std::uint32_t> open_;  // connections, by descriptor
  std::atomic<int> connections_{0};
};

}  // namespace trireme::server
