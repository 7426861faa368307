#pragma once

#include <sys/types.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "trireme/comm/communicator.h"

namespace trireme::server {

/// Sleeps and wakes across processes: whoever waits gives way a while, then sleeps.
///
///     waiter: bell.wait_until([&] { return something(); }, at_most);
///     other:  change something; bell.ring();
struct Bell {
  std::atomic<std::uint32_t> rings{0};
  std::atomic<std::uint32_t> asleep{0};

  void ring();

  /// False if `done` was still false after `at_most`, give or take a turn of the scheduler.
  template <class Done>
  bool wait_until(Done done, std::chrono::milliseconds at_most) {
    for (int i = 0; i < kPatience; ++i) {
      if (done()) return true;
      give_way(i);
    }
    const std::uint32_t heard = rings.load();
    asleep.store(1);
    if (!done()) sleep(heard, at_most);
    asleep.store(0);
    return done();
  }

 private:
  // A wake-up costs 15 to 30 us; giving way costs one where others want the core.
  static constexpr int kPatience = 120;

  static void give_way(int round);
  void sleep(std::uint32_t heard, std::chrono::milliseconds at_most);
};
static_assert(std::atomic<std::uint32_t>::is_always_lock_free);

/// Between one worker and one server, in the worker's part of the shared memory: one request at a
/// time, and its answer.
struct alignas(64) Desk {
  static constexpr std::size_t kBytes = std::size_t{1} << 20;

  struct Place {
    std::uint64_t offset = 0;  ///< in the worker's part
    std::uint64_t bytes = 0;
  };

  std::atomic<std::uint64_t> asked{0};  ///< requests so far
  std::uint64_t head_bytes = 0;
  std::uint64_t payloads = 0;
  std::uint64_t wanted = 0;

  alignas(64) std::atomic<std::uint64_t> answered{0};
  std::uint64_t answer_bytes = 0;
  std::uint64_t answers = 0;  ///< payloads of the answer

  alignas(64) std::byte paper[kBytes - 128];  ///< the head, then Places
};

/// The front of each worker's part.
struct alignas(64) Front {
  std::atomic<std::int32_t> process{0};    ///< of the worker
  std::atomic<std::uint32_t> gone{0};      ///< it ends without having left every server
  std::atomic<std::uint32_t> released{0};  ///< servers that will not touch this part again
  Bell answered;                           ///< rung by servers
};

/// The memory in which workers and servers of one host meet: a part for each worker, seen by all.
///
/// part: Front, a Desk and a Bell (rank 0's part: rung by workers) for each server, then memory for
/// payloads, which only costs what is touched.
class Station {
 public:
  /// Collective. Throws UsageError if the ranks do not share memory.
  Station(Communicator& world, int shards, std::size_t payload_bytes);

  int workers() const { return static_cast<int>(parts_.size()); }
  int shards() const { return shards_; }

  std::byte* part(int worker) const { return parts_[static_cast<std::size_t>(worker)]; }
  Front& front(int worker) const { return *reinterpret_cast<Front*>(part(worker)); }
  Desk& desk(int worker, int shard) const;
  /// Rung when somebody has asked server `shard`.
  Bell& asked(int shard) const;

  /// This worker's memory for payloads that is still free, or null.
  std::byte* allocate(std::size_t bytes);
  /// Whether [data, data + bytes) lies in `worker`'s part, and so is seen by the servers.
  bool holds(int worker, const std::byte* data, std::size_t bytes) const;
  std::size_t part_bytes() const { return part_bytes_; }

 private:
  int shards_;
  int worker_;
  std::size_t part_bytes_;
  Memory memory_;
  std::vector<std::byte*> parts_;
  std::size_t taken_;
};

}  // namespace trireme::server
