#pragma once

#include <chrono>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "trireme/comm/shm/arena.h"
#include "trireme/comm/shm/segment.h"
#include "trireme/comm/shm/watcher.h"

namespace trireme::shm {

/// The memory that one rank of a World owns, shared by its communicators. It outlives all of them.
/// Thread-safe.
class Member {
 public:
  /// `timeout`: of this rank's calls; none: that of the segment.
  Member(std::shared_ptr<Segment> segment, int world_rank,
         std::optional<std::chrono::milliseconds> timeout);
  ~Member();

  Segment& segment() const { return *segment_; }
  int world_rank() const { return world_rank_; }
  Arena& arena() { return arena_; }
  std::chrono::milliseconds timeout() const { return timeout_; }

  /// Gives back a group area of this arena, which the communicator over `world_ranks` does not need
  /// on this rank any more. reap() frees it, once none of these ranks uses it.
  void retire(std::uint64_t area_offset, std::vector<int> world_ranks);
  void reap();

 private:
  struct Retired {
    std::uint64_t offset;
    std::vector<int> world_ranks;
  };
  bool is_deserted(const Retired& area) const;

  std::shared_ptr<Segment> segment_;
  int world_rank_;
  std::chrono::milliseconds timeout_;
  Arena arena_;
  std::mutex mutex_;
  std::vector<Retired> retired_;
  std::optional<Watcher> watcher_;
};

}  // namespace trireme::shm
