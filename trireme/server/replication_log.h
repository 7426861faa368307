#pragma once

#include "trireme/server/message.h"

namespace trireme::server {

/// Receives every change of a server's state, in order, before the server makes it and before any
/// reply that depends on it. A server that applies the same entries is a replica.
class ReplicationLog {
 public:
  virtual ~ReplicationLog() = default;
  virtual void append(const Message& entry) = 0;
};

}  // namespace trireme::server
