#include "trireme/comm/shm/collective.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <memory>

#include "trireme/base/error.h"

namespace trireme::shm {

namespace {

constexpr std::size_t kLineBytes = 64;

}  // namespace

Collective::Collective(const Operation& operation, std::uint64_t number, Peers& peers,
                       Scratch& scratch)
    : operation_(operation),
      number_(number),
      peers_(&peers),
      scratch_(&scratch),
      element_(size_of(operation.dtype)),
      inline_(operation.device != Device::kCpu ||
              fits_inline(operation, peers.size(), kInlineBytes)) {}

void Collective::post() {
  const int rank = peers_->rank();
  Descriptor& descriptor = peers_->area().slot(rank).ring[number_ % kRing];
  // Constructed in place: a copy would read the lines of the descriptor before they have arrived.
  std::construct_at(&descriptor.site, operation_.where);
  descriptor.call = operation_;
  descriptor.offset = 0;
  if (operation_.device == Device::kCpu && is_read(rank)) {
    const Buffer& in = operation_.in;
    if (!inline_) {
      descriptor.offset = peers_->member().segment().offset_of(in.data, in.bytes());
    } else if (in.count > 0) {
      std::memcpy(descriptor.payload, in.data, in.bytes());
    }
  }
  if (has_own_counts(operation_)) {
    // Peers read here where their pieces begin.
    static_assert(kMaxRanks * sizeof(std::int64_t) <= kInlineBytes);
    for (int to = 0; to < peers_->size(); ++to) {
      std::memcpy(descriptor.payload + to * sizeof(std::int64_t), &operation_.pieces->in[to].begin,
                  sizeof(std::int64_t));
    }
  }
  peers_->post(number_);
}

bool Collective::advance(std::uint64_t base) {
  bool moved = false;
  while (!done_ && step(base)) moved = true;
  return moved;
}

bool Collective::step(std::uint64_t base) {
  switch (next_) {
    case Next::kMatch:
      if (!all_posted()) return false;
      compare_calls();
      plan();
      if (inline_) {
        if (operation_.device == Device::kCpu) use(chunk(0));
        peers_->publish_progress(base + 1);
        done_ = true;
        return true;
      }
      fill(chunk(0));
      if (is_staged(peers_->rank())) peers_->publish_progress(base + 1);
      next_ = Next::kFill;
      return true;
    case Next::kFill:
      if (is_staged(peers_->rank()) && at_ + 1 < chunks_) {
        fill(chunk(at_ + 1));
        peers_->publish_progress(base + 2 * (at_ + 1));
      }
      next_ = Next::kUse;
      return true;
    case Next::kUse:
      if (!filled(base)) return false;
      use(chunk(at_));
      peers_->publish_progress(base + 2 * at_ + 3);
      next_ = Next::kDrain;
      return true;
    case Next::kDrain:
      if (!used(base)) return false;
      drain(chunk(at_));
      done_ = ++at_ == chunks_;
      next_ = Next::kFill;
      return true;
  }
  return false;
}

bool Collective::all_posted() {
  while (awaited_ < peers_->size() && peers_->has_posted(awaited_, number_)) ++awaited_;
  return awaited_ == peers_->size();
}

void Collective::compare_calls() const {
  const Call& first = peers_->descriptor(0, number_).call;
  bool differs = has_own_counts(first);
  for (int peer = 1; peer < peers_->size() && !differs; ++peer) {
    differs = peers_->descriptor(peer, number_).call != first;
  }
  if (!differs) return;
  std::vector<CallOfRank> calls;
  for (int peer = 0; peer < peers_->size(); ++peer) {
    const Descriptor& descriptor = peers_->descriptor(peer, number_);
    calls.push_back({peer, descriptor.call, descriptor.site});
  }
  require_agreement(calls, number_);
}

void Collective::plan() {
  longest_ = chunk_count_ = operation_.count;
  if (inline_) return;
  for (int peer = 0; peer < peers_->size(); ++peer) any_staged_ |= is_staged(peer);
  if (has_own_counts(operation_)) longest_ = chunk_count_ = longest_piece();
  chunks_ = 1;
  if (!any_staged_) return;
  // Every row or piece of a staging buffer begins at a cache line.
  const std::size_t units = static_cast<std::size_t>(most_units(operation_, peers_->size()));
  const std::size_t unit_bytes = kStageBytes / units / kLineBytes * kLineBytes;
  if (unit_bytes == 0) {
    throw UsageError(
        fmt::format("{}: at most {} rows for ranks can move through shared memory, got {}; "
                    "take buffers of allocate()",
                    describe(operation_), kStageBytes / kLineBytes, units));
  }
  chunk_count_ = static_cast<std::int64_t>(unit_bytes / element_);
  chunks_ = std::max<std::int64_t>(1, (longest_ + chunk_count_ - 1) / chunk_count_);
}

// Returns the elements of the longest piece that any rank sends to another.
std::int64_t Collective::longest_piece() const {
  std::int64_t longest = 0;
  for (int peer = 0; peer < peers_->size(); ++peer) {
    std::int64_t end = peers_->descriptor(peer, number_).call.count;
    for (int to = peers_->size(); to-- > 0;) {
      const std::int64_t begin = offset_of(peer, 0, to);
      longest = std::max(longest, end - begin);
      end = begin;
    }
  }
  return longest;
}

bool Collective::filled(std::uint64_t base) {
  if (!any_staged_ || !(sums_slices() || wants(peers_->rank()))) return true;
  const std::uint64_t phase = base + (at_ == 0 ? 1 : 2 * at_);
  for (int peer = 0; peer < peers_->size(); ++peer) {
    if (peer == peers_->rank() || !is_staged(peer)) continue;
    awaited_ = peer;
    if (peers_->progress_of(peer) < phase) return false;
  }
  return true;
}

bool Collective::used(std::uint64_t base) {
  const std::uint64_t phase = base + 2 * at_ + 3;
  for (int peer = 0; peer < peers_->size(); ++peer) {
    const bool concerned = sums_slices() || (is_read(peers_->rank()) && wants(peer));
    if (peer == peers_->rank() || !concerned) continue;
    awaited_ = peer;
    if (peers_->progress_of(peer) < phase) return false;
  }
  return true;
}

void Collective::fill(const Chunk& chunk) {
  const int rank = peers_->rank();
  if (!is_staged(rank)) return;
  char* stage = peers_->area().stage(rank, chunk.index);
  const auto copy_in = [&](int row, int piece, Range elements) {
    if (elements.end <= elements.begin) return;
    std::memcpy(
        address(chunk, stage, row, piece, elements.begin),
        operation_.in.as<char>() + (offset_of(rank, row, piece) + elements.begin) * element_,
        elements.size() * element_);
  };
  // Data that only this rank reads is not copied.
  const Range own = slice_of(chunk, rank);
  const bool has_pieces = semantics_of(operation_.kind).in_pieces;
  for (int row = 0; row < rows_of(operation_, rank); ++row) {
    if (sums_slices()) {
      copy_in(row, 0, {chunk.elements.begin, own.begin});
      copy_in(row, 0, {own.end, chunk.elements.end});
      continue;
    }
    for (int piece = 0; piece < pieces_of_row(); ++piece) {
      const std::int64_t length =
          has_pieces ? operation_.in_piece(piece).size() : operation_.in.count;
      if (has_pieces && piece == rank) continue;
      copy_in(row, piece, {chunk.elements.begin, std::min(chunk.elements.end, length)});
    }
  }
}

void Collective::use(const Chunk& chunk) {
  const int rank = peers_->rank();
  const int size = peers_->size();
  if (sums_slices()) {
    if (!inline_) return reduce(chunk, slice_of(chunk, rank));
    if (wants(rank)) reduce(chunk, chunk.elements);
    return;
  }
  if (semantics_of(operation_.kind).sums) {
    const std::int64_t length = operation_.in_piece(rank).size();
    return reduce(chunk, {chunk.elements.begin, std::min(chunk.elements.end, length)});
  }
  if (!gets(operation_, rank)) return;
  // Every rank begins with itself, so that the ranks do not all read from the same rank.
  for (int i = 0; i < size; ++i) {
    if (gives(operation_, (rank + i) % size)) copy(chunk, (rank + i) % size);
  }
}

// Sums these elements of every rank's rows or, in a reduce_scatter, of their pieces for this rank.
void Collective::reduce(const Chunk& chunk, Range elements) {
  if (elements.end <= elements.begin) return;
  const int rank = peers_->rank();
  scratch_->outs.clear();
  scratch_->terms.clear();
  for (int peer = 0; peer < peers_->size(); ++peer) {
    for (int row = 0; row < rows_of(operation_, peer); ++row) {
      scratch_->terms.push_back(
          address(chunk, peer, row, sums_slices() ? 0 : rank, elements.begin));
    }
    if (sums_slices() && wants(peer) && (!inline_ || peer == rank)) {
      scratch_->outs.push_back(address(chunk, peer, 0, 0, elements.begin));
    }
  }
  if (!sums_slices()) {
    scratch_->outs.push_back(operation_.out.slice(elements.begin, 0).data);
  }
  tree_reduce(scratch_->outs, scratch_->terms, *operation_.tree, elements.size(), operation_.dtype,
              operation_.op, operation_.divisor);
}

// Copies the data of rank `from` that is for this rank.
void Collective::copy(const Chunk& chunk, int from) {
  const Buffer part = part_from(operation_, from);
  const std::int64_t begin = chunk.elements.begin;
  const std::int64_t end = std::min(chunk.elements.end, part.count);
  if (end <= begin) return;
  const int piece = semantics_of(operation_.kind).in_pieces ? peers_->rank() : 0;
  const char* source = address(chunk, from, 0, piece, begin);
  char* target = part.slice(begin, 0).as<char>();
  if (source != target) std::memcpy(target, source, (end - begin) * element_);
}

void Collective::drain(const Chunk& chunk) {
  const int rank = peers_->rank();
  if (!sums_slices() || !is_staged(rank) || !wants(rank)) return;
  const char* stage = peers_->area().stage(rank, chunk.index);
  char* x = operation_.out.as<char>() + chunk.elements.begin * element_;
  const Range own = slice_of(chunk, rank);
  const std::size_t before = (own.begin - chunk.elements.begin) * element_;
  const std::size_t after = (own.end - chunk.elements.begin) * element_;
  std::memcpy(x, stage, before);
  std::memcpy(x + after, stage + after, chunk.elements.size() * element_ - after);
}

int Collective::pieces_of_row() const {
  return semantics_of(operation_.kind).in_pieces ? peers_->size() : 1;
}

bool Collective::is_staged(int peer) const {
  return !inline_ && peers_->descriptor(peer, number_).offset == kStaged;
}

Collective::Chunk Collective::chunk(std::int64_t index) const {
  const std::int64_t begin = index * chunk_count_;
  return {index, {begin, std::min(longest_, begin + chunk_count_)}};
}

// Returns the part of a chunk that `peer` reduces. Parts end at cache lines.
Range Collective::slice_of(const Chunk& chunk, int peer) const {
  const auto grain = static_cast<std::int64_t>(kLineBytes / element_);
  const Range slice = partition_aligned(chunk.elements.size(), peers_->size(), peer, grain);
  return {chunk.elements.begin + slice.begin, chunk.elements.begin + slice.end};
}

// Returns where row `row`, or its piece for rank `piece`, begins in the `in` of `peer`.
std::int64_t Collective::offset_of(int peer, int row, int piece) const {
  if (has_own_counts(operation_)) {
    std::int64_t begin = 0;
    std::memcpy(&begin, peers_->descriptor(peer, number_).payload + piece * sizeof(std::int64_t),
                sizeof(begin));
    return begin;
  }
  if (!semantics_of(operation_.kind).in_pieces) return row * operation_.count;
  const std::int64_t before = row == 0 ? 0 : row * row_length(operation_, peers_->size());
  return before + operation_.in_piece(piece).begin;
}

char* Collective::address(const Chunk& chunk, char* stage, int row, int piece,
                          std::int64_t element) const {
  const std::int64_t unit = row * pieces_of_row() + piece;
  return stage + (unit * chunk_count_ + element - chunk.elements.begin) * element_;
}

char* Collective::address(const Chunk& chunk, int peer, int row, int piece,
                          std::int64_t element) const {
  const Descriptor& descriptor = peers_->descriptor(peer, number_);
  if (peer != peers_->rank() && is_staged(peer)) {
    return address(chunk, peers_->area().stage(peer, chunk.index), row, piece, element);
  }
  const std::size_t whole = (offset_of(peer, row, piece) + element) * element_;
  if (peer == peers_->rank()) return operation_.in.as<char>() + whole;
  if (inline_) return const_cast<char*>(descriptor.payload) + whole;
  return peers_->member().segment().base() + descriptor.offset + whole;
}

}  // namespace trireme::shm
