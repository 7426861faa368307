#pragma once

#include <memory>
#include <vector>

#include "trireme/base/partition.h"
#include "trireme/comm/communicator.h"
#include "trireme/kernels/reduction_tree.h"

namespace trireme {

/// The world cut into groups of consecutive ranks, numbered from 0.
class RankGroups {
 public:
  /// Collective. A group is `group_size` ranks, the last group the remaining ones; 0: consecutive
  /// ranks that share memory. `tree` gives the virtual workers of each rank of the world.
  RankGroups(Communicator& world, const ReductionTree& tree, int group_size);

  int count() const { return count_; }
  int index() const { return index_; }

  /// Connects the ranks of this rank's group.
  Communicator& inside() const { return *inside_; }
  /// Connects the first ranks of all groups, in order; null on the other ranks.
  Communicator* leaders() const { return leaders_.get(); }

  /// Those of the group's ranks together.
  Range virtual_workers() const { return virtual_workers_; }
  /// The number of them that each rank of the group has.
  const std::vector<double>& shares() const { return shares_; }
  /// This group's virtual workers divided by the average per group; 1 if all groups are equal.
  double weight() const { return weight_; }

 private:
  int count_ = 0;
  int index_ = 0;
  Range virtual_workers_;
  std::vector<double> shares_;
  double weight_ = 1;
  std::unique_ptr<Communicator> inside_;
  std::unique_ptr<Communicator> leaders_;
};

}  // namespace trireme
