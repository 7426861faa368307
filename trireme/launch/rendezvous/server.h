#pragma once

#include <chrono>
#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "trireme/launch/rendezvous/handshake.h"

namespace trireme::rendezvous {

/// The store in which the ranks of a job find each other; rank 0 serves it from a thread of its
/// own until it is destroyed.
///
/// A client must first complete the handshake (handshake.h). Connections that send other
/// bytes, too much, or nothing for `handshake_time` are closed, and above a limit the oldest of
/// those that are not through the handshake: strangers neither end the store nor keep ranks out of
/// it. All memory that a connection can cause is bounded.
class Server {
 public:
  struct Options {
    Identity identity;
    int port = 0;              ///< 0: any free port
    bool on_loopback = false;  ///< listen on loopback addresses alone
    int ranks = 1;             ///< of the job: bounds the number of connections
    std::chrono::milliseconds handshake_time = std::chrono::seconds(10);
    std::size_t max_bytes = std::size_t{256} << 20;  ///< of keys and values
  };

  /// Listens. Throws UsageError if the port is in use.
  explicit Server(const Options& options);
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  int port() const;

  /// Who was refused, the first few: "10.0.0.2, which has another job secret or none". Any thread
  /// may call it.
  std::vector<std::string> refused() const;

 private:
  class Loop;
  std::unique_ptr<Loop> loop_;
};

}  // namespace trireme::rendezvous
