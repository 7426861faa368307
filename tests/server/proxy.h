#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>
#include <thread>

#include "trireme/base/file_descriptor.h"

namespace trireme::test {

/// A bad network between a worker and a server: passes TCP connections on to `target`
/// ("tcp://127.0.0.1:7000").
class Proxy {
 public:
  /// What happens to a connection after this many bytes from the client: it breaks, or moves
  /// nothing any more.
  enum class Fate : std::uint8_t { kBreaks, kStalls };
  struct Plan {
    std::int64_t bytes = INT64_MAX;
    Fate fate = Fate::kBreaks;
  };

  /// `plan(i)` is that of the i-th connection; called by the proxy's thread.
  Proxy(const std::string& target, std::function<Plan(int connection)> plan);
  ~Proxy();
  Proxy(const Proxy&) = delete;
  Proxy& operator=(const Proxy&) = delete;

  std::string endpoint() const;
  int connections() const { return connections_; }
  int stalled() const { return stalled_; }

 private:
  void run();

  int target_port_;
  FileDescriptor listener_;
  int port_;
  std::function<Plan(int connection)> plan_;
  std::atomic<int> connections_{0};
  std::atomic<int> stalled_{0};
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

/// The port of "tcp://127.0.0.1:7000".
int port_of(const std::string& endpoint);

}  // namespace trireme::test
