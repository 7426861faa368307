#include "trireme/comm/message/exchange.h"

#include <algorithm>
#include <cstring>

#include "trireme/base/partition.h"
#include "trireme/comm/semantics.h"
#include "trireme/kernels/reduce.h"

namespace trireme::message {

namespace {

// The bytes that one rank sends to another at a time: enough for full speed, and few enough that
// sums overlap with transfers.
constexpr std::int64_t kChunkBytes = std::int64_t{512} << 10;
// A longer broadcast is a scatter and an all-gather, so that the root sends the data once and not n
// times.
constexpr std::size_t kFlatBroadcastBytes = std::size_t{64} << 10;
constexpr std::size_t kLineBytes = 64;

Chunk to_or_from(int peer, const Buffer& x) {
  return {peer, x.data, x.bytes()};
}

// Calls `body` for the other ranks. Each rank begins with its right neighbor, so that the load is
// spread.
template <class Body>
void for_each_peer(const Exchange& exchange, Body body) {
  for (int i = 1; i < exchange.size(); ++i) body((exchange.rank() + i) % exchange.size());
}

void copy(const Buffer& to, const Buffer& from) {
  if (to.data != from.data && from.count > 0) std::memcpy(to.data, from.data, from.bytes());
}

/// The reductions, chunk by chunk: the next chunk arrives while one chunk is summed and its sums
/// are sent.
class ChunkedReduction {
 public:
  ChunkedReduction(const Operation& operation, const Exchange& exchange)
      : operation_(operation),
        exchange_(exchange),
        scatters_(semantics_of(operation.kind).in_pieces),
        grain_(static_cast<std::int64_t>(kLineBytes / size_of(operation.dtype))) {
    const std::int64_t slice = kChunkBytes / static_cast<std::int64_t>(size_of(operation.dtype));
    chunk_count_ = scatters_ ? slice : slice * exchange.size();
  }

  void run() {
    const std::int64_t chunks = (operation_.count + chunk_count_ - 1) / chunk_count_;
    if (chunks == 0) return;
    Exchange::Moving coming = begin_terms(0);
    Exchange::Moving handed_out;
    for (std::int64_t i = 0; i < chunks; ++i) {
      Exchange::Moving next;
      if (i + 1 < chunks) next = begin_terms(i + 1);
      coming.wait();
      sum(i);
      handed_out.wait();
      handed_out = begin_results(i);
      coming = std::move(next);
    }
    handed_out.wait();
  }

 private:
  Range chunk(std::int64_t i) const {
    return {i * chunk_count_, std::min(operation_.count, (i + 1) * chunk_count_)};
  }
  // The elements of chunk i that `peer` sums.
  Range slice(std::int64_t i, int peer) const {
    Range all = chunk(i);
    if (scatters_) {
      all.end = std::max(all.begin, std::min(all.end, operation_.in_piece(peer).size()));
      return all;
    }
    const Range part = partition_aligned(all.size(), exchange_.size(), peer, grain_);
    return {all.begin + part.begin, all.begin + part.end};
  }
  int rows(int peer) const { return rows_of(operation_, peer); }
  // These elements of row `row` of this rank's `in`, or of that row's piece for `peer`.
  Buffer own(int row, int peer, Range elements) const {
    std::int64_t first = row * row_length(operation_, exchange_.size()) + elements.begin;
    if (scatters_) first += operation_.in_piece(peer).begin;
    return operation_.in.slice(first, elements.size());
  }
  bool wants(int peer) const { return gets(operation_, peer); }
  // The memory for term `term` of chunk i. Two chunks are in flight at a time.
  Buffer scratch(std::int64_t i, int term, std::int64_t count) {
    auto& memory = scratch_[i & 1];
    const std::int64_t longest =
        scatters_ ? chunk_count_ : chunk_count_ / exchange_.size() + grain_;
    memory.resize(operation_.tree->terms().size() * longest * size_of(operation_.dtype));
    const Buffer all{memory.data(),
                     static_cast<std::int64_t>(memory.size()) /
                         static_cast<std::int64_t>(size_of(operation_.dtype)),
                     operation_.dtype};
    return all.slice(term * longest, count);
  }

  Exchange::Moving begin_terms(std::int64_t i) {
    std::vector<Chunk> sends;
    std::vector<Chunk> receives;
    const Range mine = slice(i, exchange_.rank());
    for_each_peer(exchange_, [&](int peer) {
      for (int row = 0; row < rows(exchange_.rank()); ++row) {
        sends.push_back(to_or_from(peer, own(row, peer, slice(i, peer))));
      }
      for (int row = 0; row < rows(peer); ++row) {
        const int term = operation_.tree->first_term(peer) + row;
        receives.push_back(to_or_from(peer, scratch(i, term, mine.size())));
      }
    });
    return exchange_.begin(std::move(sends), std::move(receives));
  }

  void sum(std::int64_t i) {
    const Range mine = slice(i, exchange_.rank());
    if (mine.size() == 0) return;
    std::vector<const void*> terms;
    for (int peer = 0; peer < exchange_.size(); ++peer) {
      for (int row = 0; row < rows(peer); ++row) {
        const bool is_own = peer == exchange_.rank();
        terms.push_back(is_own ? own(row, peer, mine).data
                               : scratch(i, static_cast<int>(terms.size()), mine.size()).data);
      }
    }
    void* const out = operation_.out.slice(mine.begin, 0).data;
    tree_reduce({&out, 1}, terms, *operation_.tree, mine.size(), operation_.dtype, operation_.op,
                operation_.divisor);
  }

  Exchange::Moving begin_results(std::int64_t i) {
    if (scatters_) return {};
    std::vector<Chunk> sends;
    std::vector<Chunk> receives;
    for_each_peer(exchange_, [&](int peer) {
      const auto result = [&](int of) {
        const Range elements = slice(i, of);
        return to_or_from(peer, operation_.out.slice(elements.begin, elements.size()));
      };
      if (wants(peer)) sends.push_back(result(exchange_.rank()));
      if (wants(exchange_.rank())) receives.push_back(result(peer));
    });
    return exchange_.begin(std::move(sends), std::move(receives));
  }

  const Operation& operation_;
  const Exchange& exchange_;
  bool scatters_;
  std::int64_t grain_;
  std::int64_t chunk_count_ = 0;  // elements of a full chunk
  std::vector<char> scratch_[2];
};

// Moves the data from every rank that gives to every rank that gets.
void move_directly(const Operation& operation, const Exchange& exchange) {
  const int rank = exchange.rank();
  const bool gives_here = gives(operation, rank);
  const bool gets_here = gets(operation, rank);
  if (gives_here && gets_here) copy(part_from(operation, rank), part_for(operation, rank));
  std::vector<Chunk> sends;
  std::vector<Chunk> receives;
  for_each_peer(exchange, [&](int peer) {
    if (gives_here && gets(operation, peer)) {
      sends.push_back(to_or_from(peer, part_for(operation, peer)));
    }
    if (gets_here && gives(operation, peer)) {
      receives.push_back(to_or_from(peer, part_from(operation, peer)));
    }
  });
  exchange.move(std::move(sends), std::move(receives));
}

// A broadcast by a scatter and an all-gather (van de Geijn 1994).
void broadcast_by_slices(const Operation& operation, const Exchange& exchange) {
  const Buffer& x = operation.out;
  const bool is_root = exchange.rank() == operation.root;
  const auto slice = [&](int rank) {
    const Range part = partition(x.count, exchange.size(), rank);
    return x.slice(part.begin, part.size());
  };
  std::vector<Chunk> sends;
  std::vector<Chunk> receives;
  if (is_root) {
    for_each_peer(exchange, [&](int peer) { sends.push_back(to_or_from(peer, slice(peer))); });
  } else {
    receives.push_back(to_or_from(operation.root, slice(exchange.rank())));
  }
  exchange.move(std::move(sends), std::move(receives));
  sends.clear();
  receives.clear();
  for_each_peer(exchange, [&](int peer) {
    // The root has all slices, and no other rank has the slice of the root.
    if (peer != operation.root) sends.push_back(to_or_from(peer, slice(exchange.rank())));
    if (!is_root) receives.push_back(to_or_from(peer, slice(peer)));
  });
  exchange.move(std::move(sends), std::move(receives));
}

}  // namespace

void Transfers::add(Transfer& transfer) {
  const std::lock_guard lock(mutex_);
  under_way_.insert(&transfer);
  if (aborted_) transfer.abort();
}

void Transfers::remove(Transfer& transfer) {
  const std::lock_guard lock(mutex_);
  under_way_.erase(&transfer);
}

void Transfers::abort() {
  const std::lock_guard lock(mutex_);
  aborted_ = true;
  for (Transfer* transfer : under_way_) transfer->abort();
}

void Transfers::count(const Traffic& traffic) {
  const std::lock_guard lock(mutex_);
  traffic_ += traffic;
}

Traffic Transfers::traffic() const {
  const std::lock_guard lock(mutex_);
  return traffic_;
}

Exchange::Moving::Moving(std::unique_ptr<Transfer> transfer, Transfers& transfers,
                         Deadline deadline)
    : transfer_(std::move(transfer)), transfers_(&transfers), deadline_(deadline) {
  transfers_->add(*transfer_);
}

Exchange::Moving::Moving(Moving&& other) noexcept = default;

Exchange::Moving& Exchange::Moving::operator=(Moving&& other) noexcept {
  std::swap(transfer_, other.transfer_);
  std::swap(transfers_, other.transfers_);
  std::swap(deadline_, other.deadline_);
  return *this;
}

Exchange::Moving::~Moving() {
  if (transfer_) transfers_->remove(*transfer_);
}

void Exchange::Moving::wait() {
  if (!transfer_) return;
  transfer_->wait(deadline_);
  transfers_->remove(*transfer_);
  transfer_.reset();
}

Exchange::Moving Exchange::begin(std::vector<Chunk> sends, std::vector<Chunk> receives) const {
  for (auto* chunks : {&sends, &receives}) {
    std::erase_if(*chunks, [](const Chunk& chunk) { return chunk.bytes == 0; });
    for (Chunk& chunk : *chunks) chunk.peer = world_ranks_[chunk.peer];
  }
  if (sends.empty() && receives.empty()) return {};
  Traffic traffic;
  for (const Chunk& chunk : sends) traffic.sent += static_cast<std::int64_t>(chunk.bytes);
  for (const Chunk& chunk : receives) traffic.received += static_cast<std::int64_t>(chunk.bytes);
  transfers_.count(traffic);
  return Moving(transport_.begin(tag_, sends, receives), transfers_, deadline_);
}

void Exchange::move(std::vector<Chunk> sends, std::vector<Chunk> receives) const {
  begin(std::move(sends), std::move(receives)).wait();
}

void move_by_chunks(const Operation& operation, const Exchange& exchange) {
  if (semantics_of(operation.kind).sums) return ChunkedReduction(operation, exchange).run();
  const bool by_slices = operation.kind == OpKind::kBroadcast && exchange.size() > 2 &&
                         operation.out.bytes() > kFlatBroadcastBytes;
  by_slices ? broadcast_by_slices(operation, exchange) : move_directly(operation, exchange);
}

void finish_from_inputs(const Operation& operation, int rank, std::span<const char* const> inputs) {
  if (!gets(operation, rank)) return;
  const auto size = static_cast<int>(inputs.size());
  const bool has_pieces = semantics_of(operation.kind).in_pieces;
  if (!semantics_of(operation.kind).sums) {
    for (int from = 0; from < size; ++from) {
      const Buffer part = part_from(operation, from);
      if (!gives(operation, from) || part.count == 0) continue;
      // In the input of another rank, the piece for this rank lies where this rank's own piece
      // lies.
      const std::int64_t first = has_pieces ? operation.in_piece(rank).begin : 0;
      std::memmove(part.data,
                   inputs[from] + static_cast<std::size_t>(first) * size_of(operation.dtype),
                   part.bytes());
    }
    return;
  }
  const Range elements = has_pieces ? operation.in_piece(rank) : Range{0, operation.count};
  if (elements.size() == 0) return;
  std::vector<const void*> terms;
  for (int peer = 0; peer < size; ++peer) {
    for (int row = 0; row < rows_of(operation, peer); ++row) {
      const std::int64_t first = row * row_length(operation, size) + elements.begin;
      terms.push_back(inputs[peer] + static_cast<std::size_t>(first) * size_of(operation.dtype));
    }
  }
  tree_reduce({&operation.out.data, 1}, terms, *operation.tree, elements.size(), operation.dtype,
              operation.op, operation.divisor);
}

}  // namespace trireme::message
