#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "trireme/comm/communicator.h"

namespace trireme::hosts {

/// Shared memory through which the ranks of a host pass data to its leaders, and a communicator
/// with which they wait for each other. One thread of each rank uses it at a time.
struct StagingArea {
  /// Each rank has two halves, so that one chunk is copied in while the other is still read.
  static constexpr std::size_t kHalfBytes = std::size_t{2} << 20;

  std::unique_ptr<Communicator> inside;
  Memory stages;                 ///< all ranks of the host see each other's
  std::vector<int> world_ranks;  ///< transport ranks of the ranks of this host
  std::int64_t turn = 0;         ///< chunks so far; the same on all ranks of the host

  /// A barrier inside the host. Its errors name ranks of the transport.
  void barrier();

  /// The half that the local-th rank of this host uses in this turn.
  char* half_of(int local) const {
    return static_cast<char*>(stages.peer(local)) + (turn & 1) * kHalfBytes;
  }
};

}  // namespace trireme::hosts
