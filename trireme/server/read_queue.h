#pragma once

#include <cstdint>
#include <vector>

#include "trireme/server/consistency/policy.h"
#include "trireme/server/request.h"
#include "trireme/server/server_state.h"

namespace trireme::server {

/// The requests that wait for values: pulls and applied pushes until the consistency policy lets
/// them read, kDrain until no other worker pushes. A worker has one at a time. One thread.
class ReadQueue {
 public:
  /// `state` outlives the queue.
  explicit ReadQueue(const ServerState& state) : state_(state) {}

  /// Adds a request in place of an earlier one of the same worker, which has given up waiting for
  /// it. Throws CommError if a later request of the worker is in the queue.
  void add(Request request);
  void remove(std::uint32_t worker);

  /// Replies to every request that may read now, and, once training cannot continue, with an error
  /// to those that never will.
  void reply_ready(const ConsistencyPolicy& policy, ReplySink& sink);

  /// Replies to a request with the current values of its parts that read.
  void reply(const Request& request, ReplySink& sink) const;

 private:
  bool may_reply(const Message& request, const ConsistencyPolicy& policy) const;

  const ServerState& state_;
  std::vector<Request> requests_;
};

}  // namespace trireme::server
