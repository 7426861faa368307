#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "trireme/server/message.h"

namespace trireme::server {

/// `Request::from` of a log entry: no reply is sent.
inline constexpr std::uint64_t kNoReply = ~std::uint64_t{0};

/// A request, and where its reply goes.
struct Request {
  Message message;
  std::uint64_t from = 0;              ///< defined by the transport, or kNoReply
  std::shared_ptr<const void> memory;  ///< owns the payloads, unless they outlive the request
};

/// How a transport takes replies.
class ReplySink {
 public:
  virtual ~ReplySink() = default;
  /// Returns 8-byte aligned memory for the payload of the reply to part `part` of `request`. The
  /// server fills it before send_reply().
  virtual std::span<std::byte> allocate_reply(const Request& request, std::size_t part,
                                              std::size_t bytes) = 0;
  /// Takes the one reply to `request`. The payloads of its parts are what allocate_reply() has
  /// returned, in the same order.
  virtual void send_reply(const Request& request, const Message& reply) = 0;
};

}  // namespace trireme::server
