#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace trireme::server {

/// One server of a model, listening for workers on other hosts over ZeroMQ.
///
///     ZmqServer server({.endpoint = "tcp://10.0.0.1:7000", .secret_key = "keys/server.secret",
///                       .clients = "clients"});
///     while (!server.wait_until_over(1s)) {}
///
/// It runs in a thread of its own. Only clients whose key is listed can connect; without keys it
/// listens on the loopback device only, and only if that is allowed. Every message is checked; what
/// is rejected is counted, and logged at most every few seconds. All functions may be called from
/// any thread.
class ZmqServer {
 public:
  struct Options {
    std::string endpoint;  ///< tcp://HOST:PORT; port 0: one that is free
    int shard = 0;
    int shards = 1;

    std::string secret_key;  ///< file NAME.secret
    std::string clients;     ///< folder with the NAME.key of each client that may connect
    bool insecure_loopback =
        false;  ///< allow to have no keys: every program of this host can connect

    /// A worker that is silent for so long is lost. It sends heartbeats while it computes.
    std::chrono::milliseconds dead_after = std::chrono::seconds(60);
    /// A worker whose connection has closed, and that has not reconnected by then, is lost.
    std::chrono::milliseconds gone_after = std::chrono::seconds(5);

    /// Address of the replica of this server, a standby that takes over if this server is lost. No
    /// reply is sent before the replica has applied what it depends on. Empty: no replica.
    std::string replica;
    std::string replica_key;  ///< its file NAME.key; this server's own must be among its clients
    /// This server is a replica: it replies to workers once its primary is gone.
    bool standby = false;
    std::chrono::milliseconds connect_timeout = std::chrono::seconds(30);  ///< of the replica

    std::size_t max_message_bytes = std::size_t{1} << 30;
    /// Of all requests that wait, of their gradients once decoded, and of all replies that wait to
    /// be sent: each.
    std::size_t max_held_bytes = std::size_t{8} << 30;
    std::size_t max_model_bytes = 0;  ///< values and optimizer state; 0: no limit
    int max_connections = 1024;

    std::string checkpoints;           ///< folder that Client::save() writes to; empty: none
    std::vector<std::string> restore;  ///< files to begin with

    /// One line each; called by the server's thread.
    std::function<void(const std::string& line)> log = {};
  };

  struct Counts {
    std::int64_t requests = 0;
    std::int64_t rejected = 0;  ///< invalid messages and connections
    int connections = 0;
    std::size_t held_bytes = 0;
    std::size_t unsent_bytes = 0;  ///< of replies that their clients have not read
    std::int64_t version = 0;  ///< updates made, including those of every push that was replied to
  };

  /// Listens. Throws UsageError for an address that cannot be bound or that needs keys, DataError
  /// for keys and checkpoints that cannot be read.
  explicit ZmqServer(Options options);
  /// Stops.
  ~ZmqServer();

  /// Where it listens: "tcp://10.0.0.1:7000".
  const std::string& endpoint() const;
  /// Z85; empty without keys.
  const std::string& public_key() const;

  /// Returns true once all workers have joined and have left or are lost. Throws the error that
  /// ended the server's thread.
  bool wait_until_over(std::chrono::milliseconds timeout);

  Counts counts() const;
  /// True if it is a standby that has not taken over.
  bool is_standby() const;

  /// Ends the thread: no request is replied to any more.
  void stop();

  /// Writes the checkpoint and returns its file. Must be called after stop(). Throws UsageError if
  /// there are no parameters or no folder, DataError.
  std::string save();

 private:
  class Loop;
  std::unique_ptr<Loop> loop_;
};

}  // namespace trireme::server
