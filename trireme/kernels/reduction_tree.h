#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "trireme/base/partition.h"

namespace trireme {

/// The binary tree whose leaves are the virtual workers. It gives the order in which their
/// contributions are summed, so that sums have the same bits at every number of ranks.
///
/// Virtual workers are paired as in a binary counter: node (level, index) is the sum of 2^level
/// virtual workers from index * 2^level on, left child plus right child. If their number is no
/// power of two, the complete nodes that remain are summed from the smallest (rightmost) up.
///
/// Rank r holds the virtual workers partition(virtual_workers, ranks, r). By itself it can sum only
/// the nodes whose virtual workers it all holds: nodes_of(r), left to right. The nodes of all
/// ranks, in rank order, are the terms of the sum over ranks.
class ReductionTree {
 public:
  struct Node {
    int level = 0;
    std::int64_t index = 0;
    bool operator==(const Node&) const = default;
  };

  /// Throws UsageError unless virtual_workers >= ranks >= 1.
  ReductionTree(int virtual_workers, int ranks);

  /// Rank r holds the virtual workers parts[r]. The parts must follow one another from 0 on; a part
  /// may be empty.
  explicit ReductionTree(std::span<const Range> parts);

  int virtual_workers() const { return virtual_workers_; }
  int ranks() const { return static_cast<int>(parts_.size()); }
  Range virtual_workers_of(int rank) const { return parts_[rank]; }
  std::span<const Node> nodes_of(int rank) const;

  /// The nodes of all ranks, in order; those of rank r are terms [first_term(r), first_term(r +
  /// 1)).
  std::span<const Node> terms() const { return terms_; }
  int first_term(int rank) const { return first_term_[rank]; }

  /// The additions that turn terms() into the sum: a stack program. For each term in order: push
  /// it, then pop-and-add `merges()[term]` times. After the last term one value is left.
  std::span<const int> merges() const { return merges_; }
  /// The greatest depth of that stack.
  int depth() const { return depth_; }

 private:
  int virtual_workers_;
  std::vector<Range> parts_;  // of each rank
  std::vector<Node> terms_;
  std::vector<int> first_term_;
  std::vector<int> merges_;
  int depth_ = 0;
};

}  // namespace trireme
