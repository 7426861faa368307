#pragma once

#include <cstdint>
#include <span>

#include "trireme/base/buffer.h"
#include "trireme/base/semantics.h"

namespace trireme::cost {

/// One call, as docs/algorithms.md counts it.
struct CollectiveCall {
  OpKind kind = OpKind::kBarrier;
  std::int64_t count = 0;  ///< elements of one rank's piece
  DType dtype = DType::kF32;
  int root = 0;             ///< of the rooted ones; the sender of a send
  int to = 0;               ///< the receiver of a send
  int virtual_workers = 0;  ///< of the reductions; 0: one per rank
};

/// What one rank moves through the transport in one call.
struct Traffic {
  std::int64_t bytes_sent = 0;  ///< as data; small data travels in the announcements instead
  std::int64_t bytes_received = 0;
  std::int64_t phases = 0;           ///< exchanges of data one after the other, alike on all ranks
  int announcements = 0;             ///< frames that the rank sends
  std::int64_t announced_bytes = 0;  ///< of all these frames
  bool operator==(const Traffic&) const = default;
};

/// The traffic of `rank` of `ranks` in comm/message. Exact, counted by tests/cost. Every rank owns
/// a slice, receives all rows of it and hands the sum out: the reduce-scatter and all-gather of
/// Rabenseifner (Thakur, Rabenseifner and Gropp 2005, section 4.5) with all p-1 peers at once. A
/// large broadcast is a scatter and an all-gather (van de Geijn: Barnett et al. 1994).
Traffic over_messages(const CollectiveCall& call, int ranks, int rank);

/// The traffic of `rank` in comm/hierarchical, ranks being consecutive on hosts of
/// `ranks_of_host[h]` ranks. Of calls that move by hosts, the traffic between hosts; of all others,
/// the traffic between ranks. On one host it is 0.
Traffic over_hosts(const CollectiveCall& call, std::span<const int> ranks_of_host, int rank);

/// Bytes that some rank must send to all-reduce `bytes`, whichever the algorithm: 2(p-1)/p of them
/// (Patarasuk and Yuan 2009), which the ring and the algorithm here reach.
double least_all_reduce_bytes(double bytes, int ranks);

/// A full-duplex port of a rank or host: n bytes arrive after latency + n / bandwidth (Hockney
/// 1994).
struct Link {
  double latency_seconds = 0;
  double bytes_per_second = 1;
};

/// An estimate: a latency for the announcement and for each phase, and the announcements and data
/// of the busiest rank at the link's bandwidth. Sums are taken to hide behind transfers.
double seconds_over_messages(const CollectiveCall& call, int ranks, const Link& link);

/// The same with one link a host, which its ranks share. What moves inside a host costs nothing.
double seconds_over_hosts(const CollectiveCall& call, std::span<const int> ranks_of_host,
                          const Link& link);

}  // namespace trireme::cost
