#pragma once

#include <chrono>
#include <mutex>
#include <optional>
#include <string>

#include "trireme/base/file_descriptor.h"
#include "trireme/launch/rendezvous/handshake.h"
#include "trireme/launch/rendezvous/requests.h"

namespace trireme::rendezvous {

/// A rank's connection to the store of a rendezvous. Any thread may use it.
class Client {
 public:
  using Deadline = std::chrono::steady_clock::time_point;

  struct Options {
    Identity identity;
    std::string who;      ///< for errors: "rank 3 of 4"
    std::string address;  ///< of rank 0; a name or a number
    int port = 0;
    Deadline deadline{};  ///< until then it tries again, also where another job has the port
  };

  /// Connects and completes the handshake. Throws UsageError if rank 0 has another secret, or one
  /// of the two has none; CommError if there is no rank 0 of this job there by the deadline.
  explicit Client(const Options& options);

  /// Carries out one request and returns its value. Throws CommError if the connection breaks or
  /// the deadline passes.
  std::optional<std::string> request(const StoreRequest& request, Deadline deadline);

 private:
  std::string connect_once();

  const Options options_;
  std::mutex mutex_;
  FileDescriptor socket_;
  Session session_;
  std::string received_;
  bool met_other_job_ = false;
};

}  // namespace trireme::rendezvous
