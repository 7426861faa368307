#pragma once

#include <nccl.h>

#include <cstdint>
#include <span>

namespace trireme::nccl {

/// What ranks tell each other before they connect through NCCL.
struct Handshake {
  ncclUniqueId id{};  // the leader's
  std::uint64_t host = 0;
  std::int32_t rank = 0;
  char device[32] = {};    // its address on the bus of the host
  char failure[160] = {};  // why this rank cannot go on
};

/// That of `rank`, which uses `device`. `leads`: it makes the id.
Handshake handshake_of(int rank, int device, bool leads);

/// Throws CommError if a rank cannot go on, UsageError if two have one device: the same for all who
/// have the same handshakes.
void check_handshakes(std::span<const Handshake> handshakes);

}  // namespace trireme::nccl
