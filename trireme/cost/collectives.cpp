#include "trireme/cost/collectives.h"

#include <algorithm>
#include <bit>
#include <numeric>
#include <vector>

#include "trireme/base/partition.h"

namespace trireme::cost {

namespace {

// The constants of comm/message and comm/hierarchical, which lie above this layer. tests/cost
// counts what they move, so that a difference fails.
constexpr std::int64_t kInlineBytes = 1024;
constexpr std::int64_t kHeaderBytes = 128;
constexpr std::int64_t kChunkBytes = std::int64_t{512} << 10;
constexpr std::int64_t kFlatBroadcastBytes = std::int64_t{64} << 10;
constexpr std::int64_t kLineBytes = 64;
constexpr std::int64_t kStageBytes = std::int64_t{2} << 20;
constexpr std::int64_t kStagingAreas = 2;

std::int64_t divide_up(std::int64_t a, std::int64_t b) {
  return (a + b - 1) / b;
}

/// A collective among ranks that exchange with each other: all ranks, or one rank of each host.
struct Party {
  OpKind kind;
  int size;
  int root;
  int to;
  std::int64_t count;
  std::int64_t element_bytes;
  std::vector<int> rows;  // of each member, in reductions

  const Semantics& semantics() const { return semantics_of(kind); }
  // Of a message the root is the sender.
  bool gives(int rank) const {
    return semantics().is_message ? rank == root : semantics().gives(rank, root);
  }
  bool gets(int rank) const {
    return semantics().is_message ? rank == to : semantics().gets(rank, root);
  }
  std::int64_t bytes() const { return count * element_bytes; }
  std::int64_t reduced_chunk() const { return kChunkBytes / element_bytes * size; }
  // A large broadcast: the root's data go in slices, which all then exchange.
  bool goes_by_slices() const {
    return semantics().spreads() && semantics().is_rooted() && size > 2 &&
           bytes() > kFlatBroadcastBytes;
  }
};

// The number of complete nodes of the reduction tree over these virtual workers: aligned powers of
// two, greedily.
int rows_of(Range workers) {
  int rows = 0;
  for (auto at = static_cast<std::uint64_t>(workers.begin),
            end = static_cast<std::uint64_t>(workers.end);
       at < end; ++rows) {
    const std::uint64_t fits = std::bit_floor(end - at);
    at += at == 0 ? fits : std::min(fits, at & (~at + 1));
  }
  return rows;
}

Party all_ranks(const CollectiveCall& call, int ranks) {
  Party party{call.kind, ranks,      call.root,
              call.to,   call.count, static_cast<std::int64_t>(size_of(call.dtype)),
              {}};
  const int workers = call.virtual_workers > 0 ? call.virtual_workers : ranks;
  for (int rank = 0; party.semantics().sums && rank < ranks; ++rank) {
    party.rows.push_back(rows_of(partition(workers, ranks, rank)));
  }
  return party;
}

// Pieces of `count` elements that one member announces.
std::int64_t announced_pieces(const Party& party, int rank) {
  if (!party.gives(rank)) return 0;
  const std::int64_t rows = party.semantics().sums ? party.rows[rank] : 1;
  return rows * (party.semantics().in_pieces ? party.size : 1);
}

bool travels_inline(const Party& party) {
  std::int64_t most = 0;
  for (int rank = 0; rank < party.size; ++rank) {
    most = std::max(most, announced_pieces(party, rank));
  }
  return most * party.bytes() <= kInlineBytes;
}

// Bytes of a row that `rank` sums: its slices of all chunks.
std::int64_t summed_bytes(const Party& party, int rank) {
  const auto slice = [&](std::int64_t chunk) {
    return partition_aligned(chunk, party.size, rank, kLineBytes / party.element_bytes).size();
  };
  const std::int64_t chunk = party.reduced_chunk();
  return (party.count / chunk * slice(chunk) + slice(party.count % chunk)) * party.element_bytes;
}

// Bytes of data, without announcements.
std::int64_t bytes_between(const Party& party, int from, int to) {
  if (from == to) return 0;
  if (party.semantics().sums_slices()) {
    return party.rows[from] * summed_bytes(party, to) +
           (party.gets(to) ? summed_bytes(party, from) : 0);
  }
  if (party.semantics().sums) return party.rows[from] * party.bytes();
  if (!party.goes_by_slices()) return party.gives(from) && party.gets(to) ? party.bytes() : 0;
  const auto slice = [&](int rank) {
    return partition(party.count, party.size, rank).size() * party.element_bytes;
  };
  if (party.gives(to)) return 0;
  return slice(from) + (party.gives(from) ? slice(to) : 0);
}

std::int64_t phases_of(const Party& party) {
  if (party.size == 1 || party.count == 0) return 0;
  const Semantics& semantics = party.semantics();
  // The sums of one chunk are sent while the terms of the next one arrive.
  if (semantics.sums_slices()) return divide_up(party.count, party.reduced_chunk()) + 1;
  if (semantics.sums) return divide_up(party.count, kChunkBytes / party.element_bytes);
  if (party.goes_by_slices()) return 2;
  for (int rank = 0; rank < party.size; ++rank) {
    const bool moves = party.gives(rank) && !(semantics.is_message && party.gets(rank));
    if (moves) return 1;
  }
  return 0;
}

void add_data(const Party& party, int rank, std::int64_t times, Traffic& traffic) {
  for (int peer = 0; peer < party.size; ++peer) {
    traffic.bytes_sent += times * bytes_between(party, rank, peer);
    traffic.bytes_received += times * bytes_between(party, peer, rank);
  }
}

Traffic announcements_of(const Party& party, int rank) {
  Traffic traffic;
  const bool sends = party.semantics().is_message;
  const bool announces = !sends || (rank == party.root && rank != party.to);
  if (!announces) return traffic;
  traffic.announcements = sends ? 1 : party.size - 1;
  const std::int64_t payload =
      travels_inline(party) ? announced_pieces(party, rank) * party.bytes() : 0;
  traffic.announced_bytes = traffic.announcements * (kHeaderBytes + payload);
  return traffic;
}

/// Ranks on hosts, consecutive on each.
struct HostLayout {
  std::span<const int> ranks_of_host;

  int hosts() const { return static_cast<int>(ranks_of_host.size()); }
  int ranks() const { return first_of(hosts()); }
  int first_of(int host) const {
    return std::accumulate(ranks_of_host.begin(), ranks_of_host.begin() + host, 0);
  }
  int host_of(int rank) const {
    int host = 0;
    while (rank >= first_of(host + 1)) ++host;
    return host;
  }
  /// The number of leaders of each host, which exchange with the other hosts.
  int rails() const { return *std::min_element(ranks_of_host.begin(), ranks_of_host.end()); }
  /// Ranks of `host` that its local-th leader serves.
  std::int64_t served(int host, int local) const {
    return divide_up(ranks_of_host[host] - local, rails());
  }
};

bool moves_by_hosts(const CollectiveCall& call, const HostLayout& layout) {
  if (layout.hosts() == layout.ranks()) return false;
  const Semantics& semantics = semantics_of(call.kind);
  const bool can = semantics.sums || semantics.spreads();
  return can && !travels_inline(all_ranks(call, layout.ranks()));
}

// Elements that go through shared memory at a time.
std::int64_t staged_chunk(const CollectiveCall& call, const HostLayout& layout) {
  const Semantics& semantics = semantics_of(call.kind);
  std::int64_t rows = 1;
  const std::vector<int> all = all_ranks(call, layout.ranks()).rows;
  if (semantics.sums_slices()) {
    rows = 1 + *std::max_element(all.begin(), all.end());
  } else if (semantics.out_pieces) {
    for (int host = 0; host < layout.hosts(); ++host) rows += layout.served(host, 0);
  } else if (semantics.in_pieces) {
    std::int64_t most = 0;
    for (int host = 0; host < layout.hosts(); ++host) {
      most = std::max(most, layout.served(host, 0));
    }
    rows = std::int64_t{*std::max_element(all.begin(), all.end())} * layout.ranks() + most;
  }
  return kStageBytes / rows / kLineBytes * kLineBytes /
         static_cast<std::int64_t>(size_of(call.dtype));
}

// Partial sums of f16 and bf16 cross between hosts in f32.
std::int64_t partial_bytes(DType dtype) {
  return std::max<std::int64_t>(static_cast<std::int64_t>(size_of(dtype)),
                                dtype == DType::kF16 || dtype == DType::kBF16 ? 4 : 0);
}

std::vector<int> rows_of_hosts(const CollectiveCall& call, const HostLayout& layout) {
  const int workers = semantics_of(call.kind).sums && call.virtual_workers > 0
                          ? call.virtual_workers
                          : layout.ranks();
  std::vector<int> rows;
  for (int host = 0; host < layout.hosts(); ++host) {
    const int first = layout.first_of(host);
    const int last = layout.first_of(host + 1) - 1;
    rows.push_back(rows_of({partition(workers, layout.ranks(), first).begin,
                            partition(workers, layout.ranks(), last).end}));
  }
  return rows;
}

/// The local-th ranks of all hosts, which exchange their slice of a chunk.
Party rail_of(const CollectiveCall& call, const HostLayout& layout, std::int64_t chunk, int local) {
  const auto element = static_cast<std::int64_t>(size_of(call.dtype));
  Party rail{call.kind,
             layout.hosts(),
             layout.host_of(call.root),
             0,
             partition_aligned(chunk, layout.rails(), local, kLineBytes / element).size(),
             element,
             {}};
  if (semantics_of(call.kind).sums_slices()) {
    // Whichever rank is the root, all hosts get the sum.
    rail.kind = OpKind::kAllReduce;
    rail.element_bytes = partial_bytes(call.dtype);
    rail.rows = rows_of_hosts(call, layout);
  }
  return rail;
}

// By hosts, what has pieces of ranks goes from host to host as it is.
bool moves_once(OpKind kind) {
  return semantics_of(kind).in_pieces || semantics_of(kind).out_pieces;
}

std::int64_t phases_by_hosts(const CollectiveCall& call, const HostLayout& layout) {
  const std::int64_t chunk = staged_chunk(call, layout);
  const std::int64_t turns = divide_up(divide_up(call.count, chunk), kStagingAreas);
  if (moves_once(call.kind)) return turns;
  return turns * phases_of(rail_of(call, layout, std::min(chunk, call.count), 0));
}

void add_data_by_hosts(const CollectiveCall& call, const HostLayout& layout, int rank,
                       Traffic& traffic) {
  const int host = layout.host_of(rank);
  const int local = rank - layout.first_of(host);
  if (local >= layout.rails()) return;
  if (moves_once(call.kind)) {
    const bool gathers = semantics_of(call.kind).out_pieces;
    const auto element = static_cast<std::int64_t>(size_of(call.dtype));
    const std::int64_t bytes = call.count * (gathers ? element : partial_bytes(call.dtype));
    const std::vector<int> rows = rows_of_hosts(call, layout);
    const auto between = [&](int from, int to) {
      return bytes * (gathers ? layout.served(from, local) : rows[from] * layout.served(to, local));
    };
    for (int other = 0; other < layout.hosts(); ++other) {
      if (other == host) continue;
      traffic.bytes_sent += between(host, other);
      traffic.bytes_received += between(other, host);
    }
    return;
  }
  const std::int64_t chunk = staged_chunk(call, layout);
  add_data(rail_of(call, layout, chunk, local), host, call.count / chunk, traffic);
  add_data(rail_of(call, layout, call.count % chunk, local), host, 1, traffic);
}

// The part of a rank's announcements that goes to other hosts.
std::int64_t announced_elsewhere(const CollectiveCall& call, const HostLayout& layout, int rank,
                                 std::int64_t announced_bytes) {
  const int host = layout.host_of(rank);
  if (semantics_of(call.kind).is_message)
    return layout.host_of(call.to) == host ? 0 : announced_bytes;
  const int ranks = layout.ranks();
  return announced_bytes / (ranks - 1) * (ranks - layout.ranks_of_host[host]);
}

double seconds(std::int64_t phases, std::int64_t bytes, const Link& link) {
  return static_cast<double>(1 + phases) * link.latency_seconds +
         static_cast<double>(bytes) / link.bytes_per_second;
}

}  // namespace

Traffic over_messages(const CollectiveCall& call, int ranks, int rank) {
  const Party party = all_ranks(call, ranks);
  Traffic traffic = announcements_of(party, rank);
  if (travels_inline(party)) return traffic;
  traffic.phases = phases_of(party);
  add_data(party, rank, 1, traffic);
  return traffic;
}

Traffic over_hosts(const CollectiveCall& call, std::span<const int> ranks_of_host, int rank) {
  const HostLayout layout{ranks_of_host};
  if (layout.hosts() == 1) return {};
  if (!moves_by_hosts(call, layout)) return over_messages(call, layout.ranks(), rank);
  Traffic traffic = announcements_of(all_ranks(call, layout.ranks()), rank);
  traffic.phases = phases_by_hosts(call, layout);
  add_data_by_hosts(call, layout, rank, traffic);
  return traffic;
}

double least_all_reduce_bytes(double bytes, int ranks) {
  return 2.0 * (ranks - 1) / ranks * bytes;
}

double seconds_over_messages(const CollectiveCall& call, int ranks, const Link& link) {
  if (ranks == 1) return 0;
  std::int64_t busiest = 0;
  std::int64_t phases = 0;
  for (int rank = 0; rank < ranks; ++rank) {
    const Traffic traffic = over_messages(call, ranks, rank);
    busiest = std::max(
        busiest, traffic.announced_bytes + std::max(traffic.bytes_sent, traffic.bytes_received));
    phases = traffic.phases;
  }
  return seconds(phases, busiest, link);
}

double seconds_over_hosts(const CollectiveCall& call, std::span<const int> ranks_of_host,
                          const Link& link) {
  const HostLayout layout{ranks_of_host};
  if (layout.hosts() == 1) return 0;
  const int ranks = layout.ranks();
  const Party party = all_ranks(call, ranks);
  const bool by_hosts = moves_by_hosts(call, layout);
  std::vector<Traffic> hosts(layout.hosts());
  for (int rank = 0; rank < ranks; ++rank) {
    const int host = layout.host_of(rank);
    Traffic& of_host = hosts[host];
    const Traffic traffic = over_hosts(call, ranks_of_host, rank);
    of_host.phases = traffic.phases;
    of_host.announced_bytes += announced_elsewhere(call, layout, rank, traffic.announced_bytes);
    if (by_hosts) {
      of_host.bytes_sent += traffic.bytes_sent;
      of_host.bytes_received += traffic.bytes_received;
      continue;
    }
    for (int peer = 0; traffic.phases > 0 && peer < ranks; ++peer) {
      if (layout.host_of(peer) == host) continue;
      of_host.bytes_sent += bytes_between(party, rank, peer);
      of_host.bytes_received += bytes_between(party, peer, rank);
    }
  }
  std::int64_t busiest = 0;
  for (const Traffic& host : hosts) {
    busiest =
        std::max(busiest, host.announced_bytes + std::max(host.bytes_sent, host.bytes_received));
  }
  return seconds(hosts[0].phases, busiest, link);
}

}  // namespace trireme::cost
