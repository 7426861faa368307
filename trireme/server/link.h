#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "trireme/comm/traffic.h"
#include "trireme/server/message.h"

namespace trireme::server {

/// A worker's way to one server: what a transport implements. One request at a time; one thread.
class Link {
 public:
  using Deadline = std::chrono::steady_clock::time_point;

  virtual ~Link() = default;

  /// Sends the request on its way. Its payloads stay where they are until answer() has returned.
  /// `wanted[i]`: where the answer to the i-th part that asks for values goes, in their order.
  virtual void send(const Message& request, std::span<const std::span<std::byte>> wanted) = 0;

  /// The answer, its payloads in `wanted` (more of them, where sizes were not known, in memory of
  /// the link until the next send()). Throws CommError if the server is lost, DataError if it sends
  /// what is no answer, TimedOut at the deadline; then answer() may be called again.
  virtual Message answer(Deadline deadline) = 0;

  /// The server's own word on what it waits for, or why none came: for messages.
  virtual std::string ask_what_is_awaited() = 0;

  /// Memory from which payloads are sent and into which values are read without a copy on the way,
  /// or null if the transport has none such (left). Lives as long as the link.
  virtual std::byte* allocate(std::size_t bytes) = 0;

  /// Heads included.
  virtual Traffic traffic() const = 0;

  /// For messages: "server 0 of 2 at tcp://10.0.0.1:7000".
  virtual std::string name() const = 0;
};

/// No answer came by the deadline.
struct TimedOut {};

}  // namespace trireme::server
