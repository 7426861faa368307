#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "trireme/comm/communicator.h"

namespace trireme {

/// The cores that the process of one rank may use.
struct RankCores {
  std::uint64_t host = 0;  ///< equal on the ranks of one host
  std::vector<int> cores;  ///< of its affinity, ascending
  int quota = 0;           ///< of processor time, in cores; 0: no limit
};

/// A rank's part of the cores of its host.
struct CoreShare {
  /// Of the cores that the rank may use, those that are for it alone, if `is_own`. If ranks that
  /// may use the same cores are more than these: one of them, in turn. If other ranks may use some
  /// of them and not the rest: all that the rank may use.
  std::vector<int> cores;
  bool is_own = true;
  int threads = 1;        ///< the cores that it may use / the ranks that share them, at least 1
  int ranks_of_host = 1;  ///< ranks on its host
  int cores_of_host = 1;  ///< that these may use together
};

/// Of this process.
RankCores cores_of_this_process();

/// The part of `rank` if rank r may use the cores `ranks[r]`.
CoreShare share_of(std::span<const RankCores> ranks, int rank);

/// The part of rank `local_rank` of `ranks` that share the cores of this process.
CoreShare share_of(int ranks, int local_rank);

/// The part of this rank. Collective.
CoreShare share_cores(Communicator& world);

}  // namespace trireme
