#pragma once

#include <thread>
#include <vector>

#include "trireme/server/embedded/shared_mailbox.h"

namespace trireme::server {

/// The servers that rank 0 runs for the workers of its host: a thread each, which sleeps while
/// there are no requests. A worker whose process ends counts as lost within a tenth of a second.
class EmbeddedServers {
 public:
  explicit EmbeddedServers(SharedMailbox& mailbox);
  /// Waits until every worker has left or is lost, unless rank 0 itself ends in an error.
  ~EmbeddedServers();
  EmbeddedServers(const EmbeddedServers&) = delete;
  EmbeddedServers& operator=(const EmbeddedServers&) = delete;

 private:
  std::vector<std::thread> threads_;
};

}  // namespace trireme::server
