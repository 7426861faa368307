#include "trireme/kernels/reduction_tree.h"

#include <gtest/gtest.h>

#include <functional>
#include <string>

#include "trireme/base/error.h"

namespace trireme {
namespace {

// The oracle: the expression that one rank with all virtual workers would evaluate, built by
// recursion over the complete trees that the bits of `workers` name.
std::string expression(int workers) {
  const std::function<std::string(int, int)> complete = [&](int first, int count) -> std::string {
    if (count == 1) return std::to_string(first);
    return "(" + complete(first, count / 2) + "+" + complete(first + count / 2, count / 2) + ")";
  };
  const std::function<std::string(int)> rest = [&](int first) -> std::string {
    int size = 1;
    while (size * 2 <= workers - first) size *= 2;
    const std::string block = complete(first, size);
    return first + size == workers ? block : "(" + block + "+" + rest(first + size) + ")";
  };
  return rest(0);
}

std::string node_expression(const ReductionTree::Node& node) {
  if (node.level == 0) return std::to_string(node.index);
  return "(" + node_expression({node.level - 1, node.index * 2}) + "+" +
         node_expression({node.level - 1, node.index * 2 + 1}) + ")";
}

TEST(ReductionTree, IsTheSameExpressionForEveryNumberOfRanks) {
  for (int workers = 1; workers <= 24; ++workers) {
    for (int ranks = 1; ranks <= workers; ++ranks) {
      const ReductionTree tree(workers, ranks);
      std::vector<std::string> stack;
      for (std::size_t i = 0; i < tree.terms().size(); ++i) {
        stack.push_back(node_expression(tree.terms()[i]));
        EXPECT_LE(static_cast<int>(stack.size()), tree.depth());
        for (int m = 0; m < tree.merges()[i]; ++m) {
          const std::string right = stack.back();
          stack.pop_back();
          stack.back() = "(" + stack.back() + "+" + right + ")";
        }
      }
      ASSERT_EQ(stack.size(), 1u);
      EXPECT_EQ(stack[0], expression(workers))
          << workers << " virtual workers on " << ranks << " ranks";
    }
  }
}

TEST(ReductionTree, GivesEveryVirtualWorkerToOneRank) {
  const ReductionTree tree(12, 5);
  std::int64_t next = 0;
  for (int rank = 0; rank < 5; ++rank) {
    EXPECT_EQ(tree.virtual_workers_of(rank).begin, next);
    next = tree.virtual_workers_of(rank).end;
  }
  EXPECT_EQ(next, 12);
}

TEST(ReductionTree, RejectsARankWithoutVirtualWorkers) {
  EXPECT_THROW(ReductionTree(2, 3), UsageError);
}

}  // namespace
}  // namespace trireme
