#pragma once

#include <memory>

#include "trireme/comm/communicator.h"
#include "trireme/kernels/reduction_tree.h"
#include "trireme/parallel/strategy.h"

namespace trireme {

/// The ranks that evaluate, save checkpoints and write the model together: all ranks, or rank 0
/// alone if ranks are asynchronous, because then no rank may wait for another.
class SavingGroup {
 public:
  /// `world` must outlive the group. `tree`: the virtual workers of all ranks.
  SavingGroup(Communicator& world, Strategy& strategy, const ReductionTree& tree);

  /// True if this rank belongs to the group. Only then may it use communicator().
  bool has_this_rank() const { return has_this_rank_; }
  Communicator& communicator() const { return alone_ ? *alone_ : world_; }

  /// True if the group is all ranks, which may wait for each other.
  bool is_world() const { return !is_alone_; }

  /// All virtual workers, dealt to the ranks of the group.
  const ReductionTree& tree() const { return tree_; }

 private:
  Communicator& world_;
  bool is_alone_;
  bool has_this_rank_;
  std::unique_ptr<Communicator> alone_;  // null: the group is the world
  ReductionTree tree_;
};

}  // namespace trireme
