#include "trireme/train/saving_group.h"

#include "trireme/comm/self/self.h"

namespace trireme {

SavingGroup::SavingGroup(Communicator& world, const Strategy& strategy, const ReductionTree& tree)
    : world_(world),
      is_alone_(strategy.ranks_go_alone()),
      has_this_rank_(!is_alone_ || world.rank() == 0),
      alone_(is_alone_ ? self_communicator() : nullptr),
      tree_(is_alone_ ? ReductionTree(tree.leaves(), 1) : tree) {}

}  // namespace trireme
