#include "trireme/kernels/tree_fold.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "trireme/kernels/reduce.h"

namespace trireme {
namespace {

// Numbers whose sum depends on the order of summation.
double leaf_value(int leaf) {
  return std::ldexp(1.0 + 0.1 * leaf, (leaf * 7) % 23 * 2 - 20);
}

double sum_over_ranks(int leaves, int ranks) {
  const ReductionTree tree(leaves, ranks);
  std::vector<TreeFold> folds;
  std::vector<const void*> terms;
  for (int rank = 0; rank < ranks; ++rank) {
    TreeFold& fold = folds.emplace_back(tree, rank, 1);
    const Range mine = tree.leaves_of(rank);
    for (std::int64_t leaf = mine.begin; leaf < mine.end; ++leaf) {
      const double value = leaf_value(static_cast<int>(leaf));
      fold.add({&value, 1});
    }
  }
  for (TreeFold& fold : folds) {
    const Buffer nodes = fold.nodes();
    for (std::int64_t i = 0; i < nodes.count; ++i) terms.push_back(nodes.as<double>() + i);
  }
  double sum = 0;
  void* out = &sum;
  tree_reduce({&out, 1}, terms, tree, 1, DType::kF64, ReduceOp::kSum);
  return sum;
}

TEST(TreeFold, GivesTheSameBitsForEveryNumberOfRanks) {
  for (const int leaves : {1, 2, 3, 5, 8, 12, 13}) {
    const double alone = sum_over_ranks(leaves, 1);
    for (int ranks = 2; ranks <= leaves; ++ranks) {
      EXPECT_EQ(sum_over_ranks(leaves, ranks), alone) << leaves << " leaves, " << ranks << " ranks";
    }
  }
}

TEST(RowProgram, LeavesTheNodesThatTheTreeWants) {
  for (int leaves = 1; leaves <= 24; ++leaves) {
    for (int ranks = 1; ranks <= leaves; ++ranks) {
      const ReductionTree tree(leaves, ranks);
      for (int rank = 0; rank < ranks; ++rank) {
        const RowProgram program(tree, rank);
        EXPECT_EQ(program.nodes, static_cast<int>(tree.nodes_of(rank).size()));
        EXPECT_EQ(program.leaves.size(), static_cast<std::size_t>(tree.leaves_of(rank).size()));
        EXPECT_LE(program.nodes, program.rows);
      }
    }
  }
}

}  // namespace
}  // namespace trireme
