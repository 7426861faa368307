#pragma once

#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "trireme/comm/shm/arena.h"
#include "trireme/comm/shm/segment.h"
#include "trireme/comm/shm/watcher.h"

namespace trireme::shm {

/// What one rank of a World owns in it, whatever communicators it has: outlives all of them.
/// Thread-safe.
class Member {
 public:
  Member(std::shared_ptr<Segment> segment, int world_rank);
  ~Member();

  Segment& segment() const { return *segment_; }
  int world_rank() const { return world_rank_; }
  Arena& arena() { return arena_; }

  /// A group area of this arena that the communicator over `world_ranks` no longer needs on this
  /// rank. It is freed in reap(), once all its ranks are gone.
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
  Arena arena_;
  std::mutex mutex_;
  std::vector<Retired> retired_;
  std::optional<Watcher> watcher_;
};

}  // namespace trireme::shm
