#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "trireme/base/partition.h"

namespace trireme {

/// The one order in which the contributions of `leaves` virtual workers are summed, whichever of
/// `ranks` ranks holds them, so that sums have the same bits at every world size.
///
/// Leaves are paired as in a binary counter: node (level, index) is the sum of the 2^level leaves
/// from index * 2^level on, left child plus right child. If `leaves` is no power of two the
/// complete nodes that remain are folded from the smallest (rightmost) up.
///
/// Rank r holds the leaves partition(leaves, ranks, r) and can itself sum only nodes that lie
/// wholly in them: `nodes_of(r)`, left to right. Everyone's nodes, in rank order, are the terms of
/// the sum that crosses ranks.
class ReductionTree {
 public:
  struct Node {
    int level = 0;
    std::int64_t index = 0;
    bool operator==(const Node&) const = default;
  };

  /// Requires leaves >= ranks >= 1.
  ReductionTree(int leaves, int ranks);

  /// For ranks that hold other contiguous parts: `parts` in order, together all leaves. A
  /// part may be empty.
  explicit ReductionTree(std::span<const Range> parts);

  int leaves() const { return leaves_; }
  int ranks() const { return static_cast<int>(parts_.size()); }
  Range leaves_of(int rank) const { return parts_[rank]; }
  std::span<const Node> nodes_of(int rank) const;

  /// All ranks' nodes in order; rank r's are terms [first_term(r), first_term(r + 1)).
  std::span<const Node> terms() const { return terms_; }
  int first_term(int rank) const { return first_term_[rank]; }

  /// The additions that turn terms() into the sum: a stack program. For each term in order: push
  /// it, then pop-and-add `merges()[term]` times. After the last term one value is left.
  std::span<const int> merges() const { return merges_; }
  /// The deepest that stack gets.
  int depth() const { return depth_; }

 private:
  int leaves_;
  std::vector<Range> parts_;  // of each rank
  std::vector<Node> terms_;
  std::vector<int> first_term_;
  std::vector<int> merges_;
  int depth_ = 0;
};

}  // namespace trireme
