#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <type_traits>

#include "trireme/comm/operation.h"

namespace trireme::message {

enum class FrameKind : std::uint8_t {
  kAnnouncement,  ///< the sender has called collective `number`; a small call's data is the payload
  kMessage,       ///< a send: small data is the payload, larger data follows as a chunk
  kAgreedError,   ///< the communicator is over: agreed_error.h
  kLeave,         ///< the sender has destroyed this communicator
  kHeartbeat,     ///< the sender's process is running
  kShutdown,      ///< the sender is about to close its transport: its departure is no loss
  kShutdownAck,   ///< the answer to kShutdown
};

/// Data of at most this many bytes a rank travels inside the announcement.
constexpr std::size_t kInlineBytes = 1024;

/// A control message between two ranks. A frame is sent as it lies in memory, between programs of
/// one version on machines of one byte order.
struct Frame {
  struct Header {
    FrameKind kind = FrameKind::kHeartbeat;
    std::uint16_t payload_bytes = 0;
    std::uint32_t channel = 0;  ///< number of the communicator
    std::uint64_t number = 0;   ///< of the collective; the first one that an agreed error ends
    Call call;
    CallSite site;
  };

  Header header;
  char payload[kInlineBytes];  ///< the first payload_bytes are valid

  std::size_t bytes() const { return sizeof(Header) + header.payload_bytes; }

  /// Cuts `bytes` off after kInlineBytes.
  void set_payload(std::string_view bytes) {
    header.payload_bytes = static_cast<std::uint16_t>(std::min(bytes.size(), kInlineBytes));
    if (!bytes.empty()) std::memcpy(payload, bytes.data(), header.payload_bytes);
  }
  std::string_view text() const { return {payload, header.payload_bytes}; }
};
static_assert(std::is_trivially_copyable_v<Frame>);

}  // namespace trireme::message
