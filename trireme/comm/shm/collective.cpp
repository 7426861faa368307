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
              most_units() * operation.count * static_cast<std::int64_t>(element_) <=
                  static_cast<std::int64_t>(kInlineBytes)) {}

void Collective::post() {
  const int rank = peers_->rank();
  Descriptor& descriptor = peers_->area().slot(rank).ring[number_ % kRing];
  // In place: a copy would be read back before the lines of the descriptor have come.
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
        if (operation_.device == Device::kCpu) use(piece(0));
        peers_->publish_progress(base + 1);
        done_ = true;
        return true;
      }
      fill(piece(0));
      if (is_staged(peers_->rank())) peers_->publish_progress(base + 1);
      next_ = Next::kFill;
      return true;
    case Next::kFill:
      if (is_staged(peers_->rank()) && at_ + 1 < pieces_) {
        fill(piece(at_ + 1));
        peers_->publish_progress(base + 2 * (at_ + 1));
      }
      next_ = Next::kUse;
      return true;
    case Next::kUse:
      if (!filled(base)) return false;
      use(piece(at_));
      peers_->publish_progress(base + 2 * at_ + 3);
      next_ = Next::kDrain;
      return true;
    case Next::kDrain:
      if (!used(base)) return false;
      drain(piece(at_));
      done_ = ++at_ == pieces_;
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
  const auto call_of = [&](int peer) -> CallOfRank {
    const Descriptor& descriptor = peers_->descriptor(peer, number_);
    return {peer, descriptor.call, descriptor.site};
  };
  for (int peer = 1; peer < peers_->size(); ++peer) {
    if (call_of(peer).call != call_of(0).call) throw_mismatch(call_of(0), call_of(peer), number_);
  }
}

void Collective::plan() {
  piece_count_ = operation_.count;
  if (inline_) return;
  for (int peer = 0; peer < peers_->size(); ++peer) any_staged_ |= is_staged(peer);
  pieces_ = 1;
  if (!any_staged_) return;
  // Whole cache lines in every unit of a stage.
  const std::size_t unit_bytes = kStageBytes / most_units() / kLineBytes * kLineBytes;
  piece_count_ = static_cast<std::int64_t>(unit_bytes / element_);
  pieces_ = (operation_.count + piece_count_ - 1) / piece_count_;
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

void Collective::fill(const Piece& piece) {
  const int rank = peers_->rank();
  if (!is_staged(rank)) return;
  char* stage = peers_->area().stage(rank, piece.index);
  const auto copy_in = [&](int unit, std::int64_t begin, std::int64_t end) {
    const std::int64_t from = unit * operation_.count + begin;
    const std::int64_t to = unit * piece_count_ + begin - piece.elements.begin;
    std::memcpy(stage + to * element_, operation_.in.as<char>() + from * element_,
                (end - begin) * element_);
  };
  // What only this rank reads it reads where it is.
  const Range own = slice_of(piece, rank);
  for (int unit = 0; unit < units_of(rank); ++unit) {
    if (sums_slices()) {
      copy_in(unit, piece.elements.begin, own.begin);
      copy_in(unit, own.end, piece.elements.end);
    } else if (unit != rank || units_of(rank) == 1) {
      copy_in(unit, piece.elements.begin, piece.elements.end);
    }
  }
}

void Collective::use(const Piece& piece) {
  const int rank = peers_->rank();
  const int size = peers_->size();
  const int root = operation_.root;
  switch (operation_.kind) {
    case OpKind::kAllReduce:
    case OpKind::kReduce:
      if (!inline_ || wants(rank)) {
        reduce(piece, inline_ ? piece.elements : slice_of(piece, rank), 0);
      }
      return;
    case OpKind::kReduceScatter:
      reduce(piece, piece.elements, rank);
      return;
    case OpKind::kAllGather:
    case OpKind::kAllocate:
    case OpKind::kSplit:
      // Every rank begins with itself, so that not all read from the same one.
      for (int i = 0; i < size; ++i) copy(piece, (rank + i) % size, 0, (rank + i) % size);
      return;
    case OpKind::kAllToAll:
      for (int i = 0; i < size; ++i) copy(piece, (rank + i) % size, rank, (rank + i) % size);
      return;
    case OpKind::kBroadcast:
      if (rank != root) copy(piece, root, 0, 0);
      return;
    case OpKind::kGather:
      for (int peer = 0; rank == root && peer < size; ++peer) copy(piece, peer, 0, peer);
      return;
    case OpKind::kScatter:
      copy(piece, root, rank, 0);
      return;
    case OpKind::kBarrier:
    case OpKind::kSend:
    case OpKind::kRecv:
      return;
  }
}

// Elements `elements` of every rank's rows, or of its unit `unit` in a reduce_scatter.
void Collective::reduce(const Piece& piece, Range elements, int unit) {
  if (elements.size() == 0) return;
  scratch_->outs.clear();
  scratch_->terms.clear();
  for (int peer = 0; peer < peers_->size(); ++peer) {
    const int units = sums_slices() ? units_of(peer) : 1;
    for (int row = 0; row < units; ++row) {
      scratch_->terms.push_back(address(piece, peer, unit + row, elements.begin));
    }
    if (sums_slices() && wants(peer) && (!inline_ || peer == peers_->rank())) {
      scratch_->outs.push_back(address(piece, peer, 0, elements.begin));
    }
  }
  if (!sums_slices()) {
    scratch_->outs.push_back(operation_.out.slice(elements.begin, 0).data);
  }
  tree_reduce(scratch_->outs, scratch_->terms, *operation_.tree, elements.size(), operation_.dtype,
              operation_.op, operation_.divisor);
}

// Unit `unit` of rank `from` into unit `to` of this rank's `out`.
void Collective::copy(const Piece& piece, int from, int unit, int to) {
  const char* source = address(piece, from, unit, piece.elements.begin);
  char* target = operation_.out.slice(to * operation_.count + piece.elements.begin, 0).as<char>();
  if (source != target && piece.elements.size() > 0) {
    std::memcpy(target, source, piece.elements.size() * element_);
  }
}

void Collective::drain(const Piece& piece) {
  const int rank = peers_->rank();
  if (!sums_slices() || !is_staged(rank) || !wants(rank)) return;
  const char* stage = peers_->area().stage(rank, piece.index);
  char* x = operation_.out.as<char>() + piece.elements.begin * element_;
  const Range own = slice_of(piece, rank);
  const std::size_t before = (own.begin - piece.elements.begin) * element_;
  const std::size_t after = (own.end - piece.elements.begin) * element_;
  std::memcpy(x, stage, before);
  std::memcpy(x + after, stage + after, piece.elements.size() * element_ - after);
}

bool Collective::sums_slices() const {
  return operation_.kind == OpKind::kAllReduce || operation_.kind == OpKind::kReduce;
}

// Do other ranks read from `peer`?
bool Collective::is_read(int peer) const {
  switch (operation_.kind) {
    case OpKind::kBroadcast:
    case OpKind::kScatter:
      return peer == operation_.root;
    case OpKind::kGather:
      return peer != operation_.root;
    case OpKind::kBarrier:
      return false;
    default:
      return true;
  }
}

// Does the result of this operation arrive at `peer`?
bool Collective::wants(int peer) const {
  switch (operation_.kind) {
    case OpKind::kBroadcast:
      return peer != operation_.root;
    case OpKind::kGather:
    case OpKind::kReduce:
      return peer == operation_.root;
    default:
      return true;
  }
}

int Collective::units_of(int peer) const {
  return trireme::units_of(operation_, peers_->size(), peer);
}

int Collective::most_units() const {
  return trireme::most_units(operation_, peers_->size());
}

bool Collective::is_staged(int peer) const {
  return !inline_ && peers_->descriptor(peer, number_).offset == kStaged;
}

Collective::Piece Collective::piece(std::int64_t index) const {
  const std::int64_t begin = index * piece_count_;
  return {index, {begin, std::min(operation_.count, begin + piece_count_)}};
}

// The part of a piece that `peer` reduces, cut between cache lines.
Range Collective::slice_of(const Piece& piece, int peer) const {
  const auto grain = static_cast<std::int64_t>(kLineBytes / element_);
  const Range slice = partition_aligned(piece.elements.size(), peers_->size(), peer, grain);
  return {piece.elements.begin + slice.begin, piece.elements.begin + slice.end};
}

char* Collective::address(const Piece& piece, int peer, int unit, std::int64_t element) const {
  const std::size_t whole = (unit * operation_.count + element) * element_;
  if (peer == peers_->rank()) return operation_.in.as<char>() + whole;
  const Descriptor& descriptor = peers_->descriptor(peer, number_);
  if (inline_) return const_cast<char*>(descriptor.payload) + whole;
  if (descriptor.offset != kStaged) {
    return peers_->member().segment().base() + descriptor.offset + whole;
  }
  return peers_->area().stage(peer, piece.index) +
         (unit * piece_count_ + element - piece.elements.begin) * element_;
}

}  // namespace trireme::shm
