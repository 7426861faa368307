#include "trireme/comm/shm/member.h"

namespace trireme::shm {

Member::Member(std::shared_ptr<Segment> segment, int world_rank,
               std::optional<std::chrono::milliseconds> timeout)
    : segment_(std::move(segment)),
      world_rank_(world_rank),
      timeout_(timeout.value_or(std::chrono::milliseconds(segment_->header().timeout_ms))),
      arena_(*segment_, segment_->arena(world_rank), segment_->arena_bytes()) {
  if (segment_->header().ranks_watch != 0) watcher_.emplace(*segment_, world_rank_);
}

Member::~Member() {
  segment_->control(world_rank_).departed.store(1);
}

void Member::retire(std::uint64_t area_offset, std::vector<int> world_ranks) {
  const std::lock_guard lock(mutex_);
  retired_.push_back({area_offset, std::move(world_ranks)});
}

void Member::reap() {
  const std::lock_guard lock(mutex_);
  std::erase_if(retired_, [&](const Retired& area) {
    if (!is_deserted(area)) return false;
    arena_.give_back(area.offset, GroupArea::bytes(static_cast<int>(area.world_ranks.size())));
    return true;
  });
}

bool Member::is_deserted(const Retired& area) const {
  const auto size = static_cast<int>(area.world_ranks.size());
  const GroupArea group(segment_->base() + area.offset, size);
  for (int rank = 0; rank < size; ++rank) {
    const int world_rank = area.world_ranks[rank];
    const bool dead = segment_->is_lost(world_rank) || segment_->has_ended(world_rank);
    if (!dead && group.slot(rank).gone.load() == 0) return false;
  }
  return true;
}

}  // namespace trireme::shm
