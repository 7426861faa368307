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
/// It runs in a thread of its own. Who has no key of a listed client does not get in: without keys
/// it only listens on the loopback device, and there only if told to. What comes is checked before
/// it is believed; what is refused is counted, and logged at most every few seconds. All functions
/// may be called from any thread but as noted.
class ZmqServer {
 public:
  struct Options {
    std::string endpoint;  ///< tcp://HOST:PORT; port 0: one that is free
    int shard = 0;
    int shards = 1;

    std::string secret_key;          ///< file NAME.secret
    std::string clients;             ///< folder of the NAME.key of those who may come in
    bool insecure_loopback = false;  ///< no keys, on this host: anybody on it may come in

    /// A worker that says nothing for so long is lost. It pings while it computes.
    std::chrono::milliseconds dead_after = std::chrono::seconds(60);
    /// So is one whose connection has closed, and that has not come back by then.
    std::chrono::milliseconds gone_after = std::chrono::seconds(5);

    /// Of a server that keeps a copy of this one and takes its place if it is lost: nobody is
    /// answered before the backup has what the answer tells of. Empty: there is none.
    std::string backup;
    std::string backup_key;  ///< its file NAME.key; this server's own must be among its clients
    /// It is such a backup, and answers workers once the server that it follows is gone.
    bool standby = false;
    std::chrono::milliseconds connect_timeout = std::chrono::seconds(30);  ///< of the backup

    std::size_t max_message_bytes = std::size_t{1} << 30;
    std::size_t max_held_bytes = std::size_t{8} << 30;  ///< of requests that wait, together
    std::size_t max_model_bytes = 0;                    ///< values and state; 0: any
    int max_connections = 1024;

    std::string checkpoints;           ///< folder that Client::save() writes into; empty: none
    std::vector<std::string> restore;  ///< files to begin with

    /// One line each; called by the server's thread.
    std::function<void(const std::string& line)> log = {};
  };

  struct Counts {
    std::int64_t requests = 0;
    std::int64_t refused = 0;  ///< messages that were none
    int connections = 0;
    std::size_t held_bytes = 0;
    std::int64_t version = 0;  ///< updates made; whoever has been answered finds its own in it
  };

  /// Listens. Throws UsageError for an address that cannot be bound or that nobody should listen at
  /// without keys, DataError for keys and checkpoints that cannot be read.
  explicit ZmqServer(Options options);
  /// Stops.
  ~ZmqServer();

  /// Where it listens: "tcp://10.0.0.1:7000".
  const std::string& endpoint() const;
  /// Z85; empty without keys.
  const std::string& public_key() const;

  /// True once all workers have come and have left or are lost. Throws what ended its thread.
  bool wait_until_over(std::chrono::milliseconds timeout);

  Counts counts() const;
  /// It has not taken over.
  bool is_standby() const;

  /// Answers nobody any more.
  void stop();

  /// After stop(): writes the checkpoint and returns its file. Throws UsageError if there is
  /// nothing to write or no folder, DataError.
  std::string save();

 private:
  class Loop;
  std::unique_ptr<Loop> loop_;
};

}  // namespace trireme::server
