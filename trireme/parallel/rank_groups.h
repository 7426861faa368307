#pragma once

#include <memory>

#include "trireme/base/partition.h"
#include "trireme/comm/communicator.h"

namespace trireme {

/// The world cut into groups of consecutive ranks, numbered from 0.
class RankGroups {
 public:
  /// Collective. `group_size` ranks each, the last group what is left; 0: ranks in a row that share
  /// memory. The step has `virtual_workers`, dealt out to the ranks by partition().
  RankGroups(Communicator& world, int virtual_workers, int group_size);

  int count() const { return count_; }
  int index() const { return index_; }

  /// The ranks of this one's group.
  Communicator& inside() const { return *inside_; }
  /// The first ranks of all groups, in order; null on the other ranks.
  Communicator* leaders() const { return leaders_.get(); }

  /// Of the group, together.
  Range virtual_workers() const { return virtual_workers_; }
  /// They over those of a group in the mean: 1 where all groups have as many.
  double weight() const { return weight_; }

 private:
  int count_ = 0;
  int index_ = 0;
  Range virtual_workers_;
  double weight_ = 1;
  std::unique_ptr<Communicator> inside_;
  std::unique_ptr<Communicator> leaders_;
};

}  // namespace trireme
