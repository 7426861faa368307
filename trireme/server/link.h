#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "trireme/comm/traffic.h"
#include "trireme/server/message.h"

namespace trireme::server {

/// The connection of a worker to one server: what a transport implements. One request at a time;
/// one thread.
class Link {
 public:
  using Deadline = std::chrono::steady_clock::time_point;

  virtual ~Link() = default;

  /// Sends a request. Its payloads must stay where they are until receive() has returned.
  /// `outputs[i]`: where the values go that the i-th part that reads asks for.
  virtual void send(const Message& request, std::span<const std::span<std::byte>> outputs) = 0;

  /// Returns the reply, its payloads in `outputs`. Throws CommError if the server is lost,
  /// DataError if it sends an invalid reply, TimedOut at the deadline; after TimedOut it may be
  /// called again.
  virtual Message receive(Deadline deadline) = 0;

  /// What the server says that it waits for, for error messages; empty if unknown.
  virtual std::string waiting_for() = 0;

  /// Memory from which payloads are sent and into which values are read without a copy; null if the
  /// transport has none or it is used up. It lives as long as the link.
  virtual std::byte* allocate(std::size_t bytes) = 0;

  /// Bytes sent and received, headers included.
  virtual Traffic traffic() const = 0;

  /// For error messages: "server 0 of 2 at tcp://10.0.0.1:7000".
  virtual std::string name() const = 0;
};

/// No reply has come by the deadline.
struct TimedOut {};

}  // namespace trireme::server
