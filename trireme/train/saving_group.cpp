#include "trireme/train/saving_group.h"

#include "trireme/comm/self/self.h"
#include "trireme/parallel/relaxed_consistency.h"

namespace trireme {

namespace {

bool is_asynchronous(Strategy& strategy) {
  const RelaxedConsistency* const relaxed = strategy.relaxed();
  return relaxed != nullptr && relaxed->asynchronous();
}

}  // namespace

SavingGroup::SavingGroup(Communicator& world, Strategy& strategy, const ReductionTree& tree)
    : world_(world),
      is_alone_(is_asynchronous(strategy)),
      has_this_rank_(!is_alone_ || world.rank() == 0),
      alone_(is_alone_ ? self_communicator() : nullptr),
      tree_(is_alone_ ? ReductionTree(tree.virtual_workers(), 1) : tree) {}

}  // namespace trireme
