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
  kPost,     ///< a rank has started collective `number`; the data of a small one is the payload
  kMessage,  ///< a send: its payload follows as data
  kVerdict,  ///< this communicator is over, from operation call.count on; payload: why
  kLeave,    ///< the sender has destroyed this communicator
  kAlive,    ///< nothing to say
  kGoodbye,  ///< the sender goes; what comes after is no loss
};

/// Data of at most this many bytes a rank travels inside the post.
constexpr std::size_t kInlineBytes = 1024;

/// What ranks tell each other about their calls; sent as it lies in memory, between programs of one
/// version on machines of one byte order.
struct Frame {
  struct Header {
    FrameKind kind = FrameKind::kAlive;
    std::uint16_t payload_bytes = 0;
    std::uint32_t channel = 0;  ///< the communicator
    std::uint64_t number = 0;   ///< of the operation; rank at fault + 1 of a verdict
    Call call;
    CallSite site;
  };

  Header header;
  char payload[kInlineBytes];  ///< the first payload_bytes hold something

  std::size_t bytes() const { return sizeof(Header) + header.payload_bytes; }

  void set_payload(std::string_view text) {
    header.payload_bytes = static_cast<std::uint16_t>(std::min(text.size(), kInlineBytes));
    if (!text.empty()) std::memcpy(payload, text.data(), header.payload_bytes);
  }
  std::string_view text() const { return {payload, header.payload_bytes}; }
};
static_assert(std::is_trivially_copyable_v<Frame>);

}  // namespace trireme::message
