#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "trireme/bench/collective.h"
#include "trireme/bench/exercise.h"
#include "trireme/bench/peer.h"
#include "trireme/comm/communicator.h"

namespace trireme::bench {

/// The plan of a measurement, for every size.
struct Plan {
  Collective collective = Collective::kAllReduce;
  DType dtype = DType::kF32;
  std::vector<Place> places = {Place::kAllocated};
  std::vector<std::int64_t> sizes;
  double seconds = 0.3;  ///< for each size, all contenders together
};

/// The time of one contender's calls.
struct Timing {
  std::string name;    ///< of the place, "copy", or the peer's
  double seconds = 0;  ///< of a call: the median over batches of the slowest rank's
  double lower_quartile = 0;
  double upper_quartile = 0;
  int batches = 0;
  int calls = 0;  ///< of a batch
};

/// One size. `timings`: one for each of the plan's places, then "copy", every rank copying `size`
/// bytes with memcpy at the same time, then one for each peer.
struct Row {
  Shape shape;
  std::int64_t wrong = 0;  ///< elements, before and after the timing, of all places and ranks
  std::vector<Timing> timings;
  double algorithm_bandwidth = 0;  ///< GB/s: size over time, of the first place
  double bus_bandwidth = 0;        ///< GB/s: that times bus_factor()

  const Timing& ours() const { return timings.front(); }
};

/// Measures one size. Collective; the same row on every rank. The ranks must have been forked from
/// the process that made `peers`; rank 0 sends their requests.
Row measure(Communicator& world, const Plan& plan, std::int64_t bytes,
            std::span<PeerRanks* const> peers);

/// Returns the most bytes that one rank needs to measure `bytes`.
std::int64_t memory_of(const Plan& plan, std::int64_t bytes);

}  // namespace trireme::bench
