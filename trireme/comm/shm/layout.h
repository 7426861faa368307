#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "trireme/comm/operation.h"

/// The layout of the segment. Each value is written by one rank and read by others, possibly in
/// other processes, so there are no pointers and no constructors, and zero bytes are the initial
/// state.
///
///     WorldHeader | RankControl[ranks] | group area of the world | arena of rank 0 | arena of 1
///     ...
///
/// A group area belongs to one communicator of n ranks: Slot[n] | stages [n][2] | Channel[n][n].
/// The area of the world has a fixed place; those of split() lie in an arena.
namespace trireme::shm {

constexpr std::uint64_t kMagic = 0x656d657269727431;  // "1trireme"
constexpr std::uint32_t kVersion = 5;
constexpr int kMaxRanks = 256;
constexpr std::size_t kPageBytes = 4096;
constexpr std::size_t kHugePageBytes = std::size_t{2} << 20;

/// The most operations of one communicator that are published and not done on all ranks.
constexpr std::uint64_t kRing = 16;
/// An operation that moves at most these bytes a rank is inline: its data lies in the descriptor.
constexpr std::size_t kInlineBytes = 2048;
/// Memory that peers cannot see is copied through stages of this size, two for each rank.
constexpr std::size_t kStageBytes = std::size_t{256} << 10;
constexpr std::size_t kChannelBytes = std::size_t{64} << 10;

static_assert(std::atomic<std::uint64_t>::is_always_lock_free);

/// Returns the smallest multiple of `unit` that is at least `value`.
constexpr std::uint64_t round_up(std::uint64_t value, std::uint64_t unit) {
  return (value + unit - 1) / unit * unit;
}

struct alignas(64) WorldHeader {
  std::uint64_t magic;
  std::uint32_t version;
  std::int32_t ranks;
  std::uint64_t bytes;
  std::int64_t timeout_ms;
  std::uint32_t ranks_watch;  ///< Options::watched_by is kRanks
};

enum class Life : std::uint32_t {
  kHere,
  kBeingMarked,
  kLost,      ///< RankControl::why has the reason
  kVanished,  ///< lost too; its peers have noticed it and do not know the reason
  kEnded,     ///< in good order; an error only for ranks that still need this one
};

struct alignas(64) RankControl {
  /// A futex that counts wake-ups. This rank sleeps on it.
  std::atomic<std::uint32_t> doorbell;
  alignas(64) std::atomic<std::uint32_t> joined;
  std::atomic<std::int32_t> process;    ///< its id, once joined
  std::atomic<std::uint32_t> departed;  ///< 1 once this rank has no communicator or memory any more
  std::atomic<Life> life;
  char why[180];  ///< valid once life is kLost
};

/// Descriptor::offset of a buffer outside the segment, whose data moves through the stages.
constexpr std::uint64_t kStaged = ~std::uint64_t{0};

/// Neighboring lines are fetched in pairs, so data that one rank writes often and others read at
/// other times is this far apart.
constexpr std::size_t kApart = 128;

/// One rank's announcement of one operation. A few numbers fit into one cache line with it.
struct alignas(kApart) Descriptor {
  std::atomic<std::uint64_t> number;  ///< of the operation, counted from 1, once published
  Call call;
  char payload[kInlineBytes];
  std::uint64_t offset;  ///< of the buffer in the segment, or kStaged
  CallSite site;
};

/// Values of Slot::awaiting; another value is 1 + the rank whose publication is awaited.
constexpr std::int32_t kAwake = 0;
constexpr std::int32_t kAnyRank = -1;

/// The values that one rank publishes in one communicator.
struct alignas(kApart) Slot {
  /// Phases of operations that this rank has completed; all ranks number them the same.
  std::atomic<std::uint64_t> progress;
  alignas(kApart) std::atomic<std::int32_t> awaiting;
  /// 0 while this rank is here; then 1 + the rank because of which it has left, which may be
  /// itself.
  alignas(kApart) std::atomic<std::int32_t> left;
  /// 1 if this rank has left because of an error.
  std::atomic<std::uint32_t> failed;
  /// 1 once this rank does not use the area any more.
  std::atomic<std::uint32_t> gone;
  Descriptor ring[kRing];
};

/// The messages from one rank to another: a ring of bytes.
struct Channel {
  alignas(64) std::atomic<std::uint64_t> written;
  alignas(64) std::atomic<std::uint64_t> read;
  alignas(64) char ring[kChannelBytes];
};

/// A group area at its address in one process.
class GroupArea {
 public:
  GroupArea(char* base, int size) : base_(base), size_(size) {}

  static std::size_t bytes(int size) {
    const auto n = static_cast<std::size_t>(size);
    return n * (sizeof(Slot) + 2 * kStageBytes) + n * n * sizeof(Channel);
  }

  Slot& slot(int rank) const { return reinterpret_cast<Slot*>(base_)[rank]; }
  char* stage(int rank, std::int64_t chunk) const {
    return base_ + size_ * sizeof(Slot) + (std::int64_t{2} * rank + (chunk & 1)) * kStageBytes;
  }
  Channel& channel(int from, int to) const {
    char* channels = base_ + size_ * (sizeof(Slot) + 2 * kStageBytes);
    return reinterpret_cast<Channel*>(channels)[from * size_ + to];
  }

 private:
  char* base_;
  int size_;
};

}  // namespace trireme::shm
