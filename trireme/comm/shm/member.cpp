#include "trireme/comm/shm/member.h"

namespace trireme::shm {

Member::Member(std::shared_ptr<Segment> segment, int world_rank)
    : segment_(std::move(segment)),
      world_rank_(world_rank),
      arena_(*segment_, segment_->arena(world_rank), segment_->arena_bytes()) {}

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
    const bool lost = segment_->control(area.world_ranks[rank]).life.load() == Life::kLost;
    if (!lost && group.slot(rank).left.load() == 0) return false;
  }
  return true;
}

}  // namespace trireme::shm
