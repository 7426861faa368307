#include "trireme/kernels/row_program.h"

#include <algorithm>

namespace trireme {

RowProgram::RowProgram(const ReductionTree& tree, int rank) {
  const Range mine = tree.virtual_workers_of(rank);
  std::vector<ReductionTree::Node> stack;
  for (std::int64_t i = mine.begin; i < mine.end; ++i) {
    Step step{.row = static_cast<int>(stack.size())};
    stack.push_back({0, i});
    rows = std::max(rows, static_cast<int>(stack.size()));
    while (stack.size() > 1) {
      const auto& right = stack.back();
      const auto& left = stack[stack.size() - 2];
      if (left.level != right.level || left.index + 1 != right.index || left.index % 2 != 0) break;
      const ReductionTree::Node parent{left.level + 1, left.index / 2};
      stack.pop_back();
      stack.back() = parent;
      ++step.merges;
    }
    steps.push_back(step);
  }
  nodes = static_cast<int>(stack.size());
}

}  // namespace trireme
