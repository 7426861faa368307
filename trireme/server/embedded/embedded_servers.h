#pragma once

#include <memory>
#include <thread>
#include <vector>

#include "trireme/server/embedded/shared_mailbox.h"

namespace trireme::server {

class MailboxServer;

/// The servers that rank 0 runs for the workers of its host: a thread each, which sleeps while
/// there are no requests. A worker whose process ends counts as lost within a tenth of a second.
///
/// Rank 0's worker carries out small requests itself, those of other workers as well, while it
/// waits for a reply: on a host without a free core a server's thread would have to take the core
/// from a worker, which costs between 15 us and the scheduler's time slice.
class EmbeddedServers {
 public:
  explicit EmbeddedServers(SharedMailbox& mailbox);
  /// Waits until every worker has left or is lost, unless rank 0 itself ends in an error.
  ~EmbeddedServers();
  EmbeddedServers(const EmbeddedServers&) = delete;
  EmbeddedServers& operator=(const EmbeddedServers&) = delete;

  /// For rank 0's worker: carries out the small requests to server `shard` unless its thread is
  /// just carrying out one.
  void serve_small(int shard);

 private:
  std::vector<std::unique_ptr<MailboxServer>> servers_;
  std::vector<std::thread> threads_;
};

}  // namespace trireme::server
