#include "trireme/kernels/tree_fold.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "trireme/kernels/reduce.h"

namespace trireme {
namespace {

// Numbers whose sum depends on the order of summation.
double contribution(int worker) {
  return std::ldexp(1.0 + 0.1 * worker, (worker * 7) % 23 * 2 - 20);
}

double sum_over_ranks(int workers, int ranks) {
  const ReductionTree tree(workers, ranks);
  std::vector<TreeFold> folds;
  std::vector<const void*> terms;
  for (int rank = 0; rank < ranks; ++rank) {
    TreeFold& fold = folds.emplace_back(tree, rank, 1);
    const Range mine = tree.virtual_workers_of(rank);
    for (std::int64_t worker = mine.begin; worker < mine.end; ++worker) {
      const double value = contribution(static_cast<int>(worker));
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
  for (const int workers : {1, 2, 3, 5, 8, 12, 13}) {
    const double alone = sum_over_ranks(workers, 1);
    for (int ranks = 2; ranks <= workers; ++ranks) {
      EXPECT_EQ(sum_over_ranks(workers, ranks), alone)
          << workers << " virtual workers, " << ranks << " ranks";
    }
  }
}

TEST(RowProgram, EndsInTheNodesOfTheTree) {
  for (int workers = 1; workers <= 24; ++workers) {
    for (int ranks = 1; ranks <= workers; ++ranks) {
      const ReductionTree tree(workers, ranks);
      for (int rank = 0; rank < ranks; ++rank) {
        const RowProgram program(tree, rank);
        EXPECT_EQ(program.nodes, static_cast<int>(tree.nodes_of(rank).size()));
        EXPECT_EQ(program.steps.size(),
                  static_cast<std::size_t>(tree.virtual_workers_of(rank).size()));
        EXPECT_LE(program.nodes, program.rows);
      }
    }
  }
}

}  // namespace
}  // namespace trireme
