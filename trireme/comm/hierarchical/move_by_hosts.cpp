#include "trireme/comm/hierarchical/move_by_hosts.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "trireme/comm/hierarchical/host_fold.h"
#include "trireme/comm/semantics.h"
#include "trireme/kernels/cast.h"

namespace trireme::hosts {

namespace {

constexpr std::size_t kLineBytes = 64;

/// One collective through one staging area, chunk after chunk:
///
///     stage in   each rank copies its part of the chunk into its stage
///     barrier    inside the host
///     exchange   leaders exchange with the other hosts, reading and writing stages
///     barrier
///     stage out  each rank copies its result from the stages
///
/// and a last barrier after the last chunk.
///
/// A stage is `rows` rows of chunk_count_ elements. Each operation says what its rows hold.
class ByHosts {
 public:
  ByHosts(const Operation& operation, const Hosts& hosts, StagingArea& staging,
          const message::Exchange& rail, int rows)
      : operation_(operation),
        hosts_(hosts),
        staging_(staging),
        rail_(rail),
        element_(size_of(operation.dtype)) {
    const std::size_t row_bytes = StagingArea::kHalfBytes / rows / kLineBytes * kLineBytes;
    chunk_count_ = static_cast<std::int64_t>(row_bytes / element_);
  }
  virtual ~ByHosts() = default;

  void run(int first, int stride) {
    for (std::int64_t i = first; i * chunk_count_ < operation_.count; i += stride) {
      elements_ = {i * chunk_count_, std::min(operation_.count, (i + 1) * chunk_count_)};
      stage_in();
      staging_.barrier();
      if (hosts_.is_leader()) exchange();
      staging_.barrier();
      stage_out();
      ++staging_.turn;
    }
    // A rank that is done may destroy its communicator, and its stage with it.
    staging_.barrier();
  }

 protected:
  virtual void stage_in() = 0;
  virtual void exchange() = 0;
  virtual void stage_out() = 0;

  Buffer stage(int local, int row, Range elements) const {
    const Buffer half{staging_.half_of(local),
                      static_cast<std::int64_t>(StagingArea::kHalfBytes / element_),
                      operation_.dtype};
    return half.slice(row * chunk_count_ + elements.begin, elements.size());
  }
  Buffer stage(int local, int row) const { return stage(local, row, {0, elements_.size()}); }

  // This turn's elements of the `length` elements that begin at element `first` of a rank's buffer.
  Buffer part_of(const Buffer& x, std::int64_t first, std::int64_t length) const {
    return x.slice(first + elements_.begin, elements_of(length));
  }
  Buffer part_of(const Buffer& x, Range piece) const {
    return part_of(x, piece.begin, piece.size());
  }
  // How many elements of `length` move in this turn.
  std::int64_t elements_of(std::int64_t length) const {
    return std::clamp<std::int64_t>(length - elements_.begin, 0, elements_.size());
  }

  // The part of the chunk that the local-th rank exchanges.
  Range slice(int local) const {
    return partition_aligned(elements_.size(), hosts_.rails(), local,
                             static_cast<std::int64_t>(kLineBytes / element_));
  }

  static void copy(const Buffer& to, const Buffer& from) {
    if (to.data != from.data && from.count > 0) std::memcpy(to.data, from.data, from.bytes());
  }

  int local() const { return hosts_.local(); }
  int rank() const { return hosts_.first_of(hosts_.host()) + local(); }

  const Operation& operation_;
  const Hosts& hosts_;
  StagingArea& staging_;
  const message::Exchange& rail_;
  std::size_t element_;
  std::int64_t chunk_count_ = 0;
  Range elements_;  // of the chunk
};

/// Partial sums, in the type in which they cross between hosts.
class Partials {
 public:
  Partials(DType dtype, std::int64_t count)
      : dtype_(HostFold::partial_type(dtype)),
        count_(count),
        memory_((static_cast<std::size_t>(count) * size_of(dtype_) + 7) / 8) {}

  Buffer all() { return {memory_.data(), count_, dtype_}; }

 private:
  DType dtype_;
  std::int64_t count_;
  std::vector<double> memory_;  // aligned for every type
};

// Writes a finished sum to memory of its final type.
void put(const Buffer& to, const Buffer& sum) {
  if (sum.count == 0) return;
  if (to.dtype == sum.dtype) {
    std::memcpy(to.data, sum.data, sum.bytes());
  } else {
    narrow(sum.as<float>(), to);
  }
}

/// Stage: the rows of the rank, then its slice of the sum. Each leader sums its slice over the host
/// and all-reduces it over the hosts; then each rank gathers the slices.
class AllReduce final : public ByHosts {
 public:
  AllReduce(const Operation& operation, const Hosts& hosts, StagingArea& staging,
            const message::Exchange& rail)
      : ByHosts(operation, hosts, staging, rail, most_units(operation, hosts.ranks()) + 1),
        fold_(*operation.tree, hosts),
        result_row_(most_units(operation, hosts.ranks())) {}

 private:
  void stage_in() override {
    const int rows = units_of(operation_, hosts_.ranks(), rank());
    for (int row = 0; row < rows; ++row) {
      copy(stage(local(), row), part_of(operation_.in, row * operation_.count, operation_.count));
    }
  }

  void exchange() override {
    const Range mine = slice(local());
    if (mine.size() == 0) return;
    // A host without virtual workers still needs a row for the result.
    Partials partials(operation_.dtype, std::max(1, fold_.rows()) * mine.size());
    fold_.sum([&](int local, int row) { return stage(local, row, mine).data; }, mine.size(),
              operation_.dtype, operation_.op, partials.all().data);
    Operation over_hosts = operation_;
    over_hosts.kind = OpKind::kAllReduce;
    over_hosts.count = mine.size();
    over_hosts.tree = &fold_.over_hosts();
    over_hosts.dtype = partials.all().dtype;
    over_hosts.in = over_hosts.out = partials.all();
    message::move_by_chunks(over_hosts, rail_);
    put(stage(local(), result_row_, mine), partials.all().slice(0, mine.size()));
  }

  void stage_out() override {
    if (!gets(operation_, rank())) return;
    const Buffer out = part_of(operation_.out, 0, operation_.count);
    for (int leader = 0; leader < hosts_.rails(); ++leader) {
      const Range part = slice(leader);
      copy(out.slice(part.begin, part.size()), stage(leader, result_row_, part));
    }
  }

  HostFold fold_;
  int result_row_;
};

/// Stage: one row, the chunk. On other hosts than the root's each leader has its slice of it.
class Broadcast final : public ByHosts {
 public:
  Broadcast(const Operation& operation, const Hosts& hosts, StagingArea& staging,
            const message::Exchange& rail)
      : ByHosts(operation, hosts, staging, rail, 1), root_host_(hosts.host_of(operation.root)) {}

 private:
  int holder(int leader) const {
    return hosts_.host() == root_host_ ? hosts_.local_of(operation_.root) : leader;
  }

  void stage_in() override {
    if (rank() == operation_.root) {
      copy(stage(local(), 0), part_of(operation_.in, 0, operation_.count));
    }
  }

  void exchange() override {
    Operation over_hosts = operation_;
    over_hosts.root = root_host_;
    over_hosts.in = over_hosts.out = stage(holder(local()), 0, slice(local()));
    over_hosts.count = over_hosts.in.count;
    message::move_by_chunks(over_hosts, rail_);
  }

  void stage_out() override {
    if (rank() == operation_.root) return;
    const Buffer out = part_of(operation_.out, 0, operation_.count);
    for (int leader = 0; leader < hosts_.rails(); ++leader) {
      const Range part = slice(leader);
      copy(out.slice(part.begin, part.size()), stage(holder(leader), 0, part));
    }
  }

  int root_host_;
};

/// For each local rank that a leader serves: itself, itself + rails(), ...
template <class Body>
void for_each_served(const Hosts& hosts, int host, int leader, Body body) {
  for (int local = leader; local < hosts.ranks_of(host); local += hosts.rails()) body(local);
}

int most_served(const Hosts& hosts, int host) {
  return (hosts.ranks_of(host) + hosts.rails() - 1) / hosts.rails();
}

/// Stage: row 0 is the rank's own piece. On leaders the pieces of the ranks of other hosts that
/// they serve follow, host by host.
class AllGather final : public ByHosts {
 public:
  AllGather(const Operation& operation, const Hosts& hosts, StagingArea& staging,
            const message::Exchange& rail)
      : ByHosts(operation, hosts, staging, rail, rows_of(hosts)) {}

 private:
  static int rows_of(const Hosts& hosts) {
    int rows = 1;
    for (int host = 0; host < hosts.count(); ++host) rows += most_served(hosts, host);
    return rows;
  }

  int row_of(int host, int local) const {
    int row = 1;
    for (int before = 0; before < host; ++before) row += most_served(hosts_, before);
    return row + local / hosts_.rails();
  }

  // This turn's part of the piece of `rank`, in row `row` of the local-th stage.
  Buffer piece_in_stage(int local, int row, int rank) const {
    return stage(local, row, {0, elements_of(operation_.out_piece(rank).size())});
  }

  void stage_in() override {
    copy(piece_in_stage(local(), 0, rank()), part_of(operation_.in, 0, operation_.in.count));
  }

  void exchange() override {
    std::vector<message::Chunk> sends;
    std::vector<message::Chunk> receives;
    for (int host = 0; host < hosts_.count(); ++host) {
      if (host == hosts_.host()) continue;
      for_each_served(hosts_, hosts_.host(), local(), [&](int served) {
        const Buffer x = piece_in_stage(served, 0, hosts_.first_of(hosts_.host()) + served);
        sends.push_back({host, x.data, x.bytes()});
      });
      for_each_served(hosts_, host, local(), [&](int served) {
        const Buffer x =
            piece_in_stage(local(), row_of(host, served), hosts_.first_of(host) + served);
        receives.push_back({host, x.data, x.bytes()});
      });
    }
    rail_.move(std::move(sends), std::move(receives));
  }

  void stage_out() override {
    for (int rank = 0; rank < hosts_.ranks(); ++rank) {
      const int host = hosts_.host_of(rank);
      const int of = hosts_.local_of(rank);
      copy(part_of(operation_.out, operation_.out_piece(rank)),
           host == hosts_.host() ? piece_in_stage(of, 0, rank)
                                 : piece_in_stage(of % hosts_.rails(), row_of(host, of), rank));
    }
  }
};

/// Stage: for each row of the rank, the pieces for each rank; then, on leaders, the sums of the
/// local ranks that they serve. Each leader sums over its host the pieces of the ranks that it
/// serves on all hosts, and sends each host its partial sums.
class ReduceScatter final : public ByHosts {
 public:
  ReduceScatter(const Operation& operation, const Hosts& hosts, StagingArea& staging,
                const message::Exchange& rail)
      : ByHosts(operation, hosts, staging, rail,
                most_units(operation, hosts.ranks()) + most_served(hosts, widest(hosts))),
        fold_(*operation.tree, hosts),
        result_row_(most_units(operation, hosts.ranks())) {}

 private:
  static int widest(const Hosts& hosts) {
    int widest = 0;
    for (int host = 1; host < hosts.count(); ++host) {
      if (hosts.ranks_of(host) > hosts.ranks_of(widest)) widest = host;
    }
    return widest;
  }

  int result_row(int local) const { return result_row_ + local / hosts_.rails(); }
  // How many elements of the piece of `rank` are summed in this turn.
  std::int64_t elements_for(int rank) const {
    return elements_of(operation_.in_piece(rank).size());
  }
  // The piece for rank `to` of row `row` of the local-th rank.
  Buffer piece_in_stage(int local, int row, int to) const {
    return stage(local, row * hosts_.ranks() + to, {0, elements_for(to)});
  }

  void stage_in() override {
    const std::int64_t length = row_length(operation_, hosts_.ranks());
    for (int row = 0; row < rows_of(operation_, rank()); ++row) {
      for (int to = 0; to < hosts_.ranks(); ++to) {
        const Range piece = operation_.in_piece(to);
        copy(piece_in_stage(local(), row, to),
             part_of(operation_.in, row * length + piece.begin, piece.size()));
      }
    }
  }

  void exchange() override {
    std::vector<Partials> outgoing;  // for every rank served, in rank order
    std::vector<Partials> incoming;  // for every rank served here, by sending host
    std::vector<message::Chunk> sends;
    std::vector<message::Chunk> receives;
    for (int host = 0; host < hosts_.count(); ++host) {
      for_each_served(hosts_, host, local(), [&](int served) {
        const int to = hosts_.first_of(host) + served;
        const std::int64_t n = elements_for(to);
        Partials& sums = outgoing.emplace_back(operation_.dtype, fold_.rows() * n);
        fold_.sum([&](int local, int row) { return piece_in_stage(local, row, to).data; }, n,
                  operation_.dtype, operation_.op, sums.all().data);
        if (host != hosts_.host()) sends.push_back({host, sums.all().data, sums.all().bytes()});
      });
    }
    for (int host = 0; host < hosts_.count(); ++host) {
      for_each_served(hosts_, hosts_.host(), local(), [&](int served) {
        const auto rows = static_cast<std::int64_t>(fold_.over_hosts().nodes_of(host).size());
        const std::int64_t n = elements_for(hosts_.first_of(hosts_.host()) + served);
        Partials& sums = incoming.emplace_back(operation_.dtype, rows * n);
        if (host != hosts_.host()) receives.push_back({host, sums.all().data, sums.all().bytes()});
      });
    }
    rail_.move(std::move(sends), std::move(receives));
    finish(outgoing, incoming);
  }

  void finish(std::vector<Partials>& outgoing, std::vector<Partials>& incoming) {
    int before = 0;  // ranks served on the hosts before this one
    for (int host = 0; host < hosts_.host(); ++host) {
      for_each_served(hosts_, host, local(), [&](int) { ++before; });
    }
    int here = 0;
    for_each_served(hosts_, hosts_.host(), local(), [&](int) { ++here; });
    int index = 0;
    for_each_served(hosts_, hosts_.host(), local(), [&](int served) {
      const std::int64_t n = elements_for(hosts_.first_of(hosts_.host()) + served);
      std::vector<const void*> terms;
      for (int host = 0; host < hosts_.count(); ++host) {
        Partials& sums =
            host == hosts_.host() ? outgoing[before + index] : incoming[host * here + index];
        const auto rows = static_cast<int>(fold_.over_hosts().nodes_of(host).size());
        for (int row = 0; row < rows; ++row) terms.push_back(sums.all().slice(row * n, n).data);
      }
      Partials result(operation_.dtype, n);
      void* const out = result.all().data;
      tree_reduce({&out, 1}, terms, fold_.over_hosts(), n, result.all().dtype, operation_.op,
                  operation_.divisor);
      put(stage(local(), result_row(served), {0, n}), result.all());
      ++index;
    });
  }

  void stage_out() override {
    const Buffer out = part_of(operation_.out, 0, operation_.out.count);
    copy(out, stage(local() % hosts_.rails(), result_row(local()), {0, out.count}));
  }

  HostFold fold_;
  int result_row_;
};

}  // namespace

bool moves_by_hosts(const Operation& operation) {
  const Semantics& semantics = semantics_of(operation.kind);
  return semantics.sums || semantics.spreads();
}

void move_by_hosts(const Operation& operation, const Hosts& hosts, StagingArea& staging,
                   const message::Exchange& rail, int first, int stride) {
  if (sums_slices(operation)) return AllReduce(operation, hosts, staging, rail).run(first, stride);
  if (semantics_of(operation.kind).sums) {
    return ReduceScatter(operation, hosts, staging, rail).run(first, stride);
  }
  if (operation.kind == OpKind::kBroadcast) {
    return Broadcast(operation, hosts, staging, rail).run(first, stride);
  }
  AllGather(operation, hosts, staging, rail).run(first, stride);
}

}  // namespace trireme::hosts
