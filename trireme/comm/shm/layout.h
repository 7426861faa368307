#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "trireme/comm/operation.h"

/// What lies where in the segment. Everything here is written by one rank and read by others, in
/// other processes as well: no pointers, no constructors, zero bytes are the initial state.
///
///     WorldHeader | RankControl[ranks] | group area of the world | arena of rank 0 | arena of 1
///     ...
///
/// A group area serves one communicator of n ranks: Slot[n] | stages [n][2] | Channel[n][n]. That
/// of the world has a fixed place; those of split() lie in an arena.
namespace trireme::shm {

constexpr std::uint64_t kMagic = 0x656d657269727431;  // "1trireme"
constexpr std::uint32_t kVersion = 4;
constexpr int kMaxRanks = 256;
constexpr std::size_t kPageBytes = 4096;
constexpr std::size_t kHugePageBytes = std::size_t{2} << 20;

/// Operations of one communicator whose descriptors are published and not done everywhere.
constexpr std::uint64_t kRing = 16;
/// An operation that moves no more than this a rank travels inside its descriptor.
constexpr std::size_t kInlineBytes = 2048;
/// Memory that peers cannot see is carried in pieces of this size, two of them at a time.
constexpr std::size_t kStageBytes = std::size_t{256} << 10;
constexpr std::size_t kChannelBytes = std::size_t{64} << 10;

static_assert(std::atomic<std::uint64_t>::is_always_lock_free);

/// The smallest multiple of `unit` that is at least `value`.
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
  kLost,      ///< RankControl::why says how
  kVanished,  ///< lost as well, seen by its peers, who do not know how
  kEnded,     ///< in good order, which matters to whoever still needs the rank
};

struct alignas(64) RankControl {
  /// Futex: counts the calls to wake up. Whoever sleeps for this rank sleeps on it.
  std::atomic<std::uint32_t> doorbell;
  alignas(64) std::atomic<std::uint32_t> joined;
  std::atomic<std::int32_t> process;    ///< its id, once joined
  std::atomic<std::uint32_t> departed;  ///< no communicator or memory is left to this rank
  std::atomic<Life> life;
  char why[180];  ///< valid once life is kLost
};

/// Where the bytes that an operation reads from a rank lie.
constexpr std::uint64_t kStaged = ~std::uint64_t{0};

/// Neighbouring lines are fetched in pairs: what one rank writes often and others read at other
/// times stands this far apart.
constexpr std::size_t kApart = 128;

/// One rank's announcement of one operation. A few numbers go to the peers in one cache line.
struct alignas(kApart) Descriptor {
  std::atomic<std::uint64_t> number;  ///< of the operation, counted from 1, once published
  Call call;
  char payload[kInlineBytes];
  std::uint64_t offset;  ///< of the buffer in the segment, or kStaged
  CallSite site;
};

/// Slot::awaiting: nobody, anybody, or 1 + the rank whose publication is awaited.
constexpr std::int32_t kAwake = 0;
constexpr std::int32_t kAnybody = -1;

/// What one rank publishes in one communicator.
struct alignas(kApart) Slot {
  /// Phases of operations behind this rank; all ranks number them alike.
  std::atomic<std::uint64_t> progress;
  alignas(kApart) std::atomic<std::int32_t> awaiting;
  /// 0, or 1 + the rank because of which this rank has left (itself if of its own accord).
  alignas(kApart) std::atomic<std::int32_t> left;
  /// 1 if this rank has left because of an error.
  std::atomic<std::uint32_t> failed;
  /// 1 once this rank, which has left, does not touch the area any more.
  std::atomic<std::uint32_t> gone;
  Descriptor ring[kRing];
};

/// The messages from one rank to another: a ring of bytes.
struct Channel {
  alignas(64) std::atomic<std::uint64_t> written;
  alignas(64) std::atomic<std::uint64_t> read;
  alignas(64) char ring[kChannelBytes];
};

/// A group area, seen from one process.
class GroupArea {
 public:
  GroupArea(char* base, int size) : base_(base), size_(size) {}

  static std::size_t bytes(int size) {
    const auto n = static_cast<std::size_t>(size);
    return n * (sizeof(Slot) + 2 * kStageBytes) + n * n * sizeof(Channel);
  }

  Slot& slot(int rank) const { return reinterpret_cast<Slot*>(base_)[rank]; }
  char* stage(int rank, std::int64_t piece) const {
    return base_ + size_ * sizeof(Slot) + (std::int64_t{2} * rank + (piece & 1)) * kStageBytes;
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
