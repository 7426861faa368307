#include "trireme/parallel/rank_groups.h"

#include <cstdint>
#include <span>
#include <vector>

#include "trireme/comm/self/self.h"

namespace trireme {

namespace {

std::int64_t first_of_group(Communicator& world, int group_size) {
  if (group_size > 0) return world.rank() / group_size * group_size;
  const Memory probe = world.allocate(1);
  int first = world.rank();
  while (first > 0 && probe.peer(first - 1) != nullptr) --first;
  return first;
}

}  // namespace

RankGroups::RankGroups(Communicator& world, const ReductionTree& tree, int group_size) {
  std::int64_t first = first_of_group(world, group_size);
  std::vector<std::int64_t> firsts(static_cast<std::size_t>(world.size()));
  world.all_gather(buffer_of(std::span(firsts)), buffer_of(std::span(&first, 1))).wait();
  std::int64_t last = first;
  for (int rank = 0; rank < world.size(); ++rank) {
    const std::int64_t theirs = firsts[static_cast<std::size_t>(rank)];
    if (theirs == rank) {
      ++count_;
      if (rank < first) ++index_;
    }
    if (theirs == first) last = rank;
  }
  const auto workers_of = [&](std::int64_t rank) {
    return tree.virtual_workers_of(static_cast<int>(rank));
  };
  virtual_workers_ = {workers_of(first).begin, workers_of(last).end};
  for (std::int64_t rank = first; rank <= last; ++rank) {
    shares_.push_back(static_cast<double>(workers_of(rank).size()));
  }
  weight_ = static_cast<double>(virtual_workers_.size() * count_) / tree.virtual_workers();
  // A group of one rank survives the failure of all others.
  const bool is_alone = first == last;
  inside_ = world.split(is_alone ? -1 : static_cast<int>(first), world.rank());
  if (is_alone) inside_ = self_communicator();
  leaders_ = world.split(world.rank() == first ? 0 : -1, world.rank());
}

}  // namespace trireme
