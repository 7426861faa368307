#pragma once

#include <memory>
#include <vector>

#include "trireme/comm/communicator.h"
#include "trireme/comm/hierarchical/hosts.h"
#include "trireme/comm/message/exchange.h"

namespace trireme::hosts {

/// What one thread of a rank works with: a communicator of its host's ranks and memory that they
/// all see.
struct Track {
  /// Of each rank; two halves, so that one piece is brought in while the other is still read.
  static constexpr std::size_t kHalfBytes = std::size_t{2} << 20;

  std::unique_ptr<Communicator> inside;
  Memory stage;
  std::vector<int> world_ranks;  ///< the transport's, of the ranks of this host
  std::int64_t turn = 0;         ///< pieces so far; all ranks of the host count alike

  /// A barrier inside the host. Errors count in ranks of the transport.
  void barrier();

  /// What the local-th rank of this host brings in or hands out in this turn.
  char* half_of(int local) const {
    return static_cast<char*>(stage.peer(local)) + (turn & 1) * kHalfBytes;
  }
};

/// Can `operation` be carried out host by host? If not, it goes from rank to rank.
bool goes_by_hosts(const Operation& operation);

/// Carries out every `tracks`-th piece of `operation`, from piece `index` on. Inside a host, data
/// moves through shared memory; between hosts, each rank that carries moves its share along
/// `rail`, whose ranks are the hosts.
void move_by_hosts(const Operation& operation, const Hosts& hosts, Track& track,
                   const message::Exchange& rail, int index, int tracks);

}  // namespace trireme::hosts
