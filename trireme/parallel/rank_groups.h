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
  /// Collective. `group_size` ranks each, the last group what is left; 0: ranks in a row that share
  /// memory. `tree` says which virtual workers of the step each rank of the world has.
  RankGroups(Communicator& world, const ReductionTree& tree, int group_size);

  int count() const { return count_; }
  int index() const { return index_; }

  /// The ranks of this one's group.
  Communicator& inside() const { return *inside_; }
  /// The first ranks of all groups, in order; null on the other ranks.
  Communicator* leaders() const { return leaders_.get(); }

  /// Of the group, together.
  Range virtual_workers() const { return virtual_workers_; }
  /// How many of them each of its ranks has.
  const std::vector<double>& shares() const { return shares_; }
  /// They over those of a group in the mean: 1 where all groups have as many.
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
