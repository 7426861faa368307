#include "trireme/kernels/reduction_tree.h"

#include <fmt/format.h>

#include <algorithm>

#include "trireme/base/error.h"

namespace trireme {

namespace {

void append_nodes(Range workers, std::vector<ReductionTree::Node>& nodes) {
  std::int64_t at = workers.begin;
  while (at < workers.end) {
    int level = 0;
    while ((at & ((std::int64_t{2} << level) - 1)) == 0 &&
           at + (std::int64_t{2} << level) <= workers.end) {
      ++level;
    }
    nodes.push_back({level, at >> level});
    at += std::int64_t{1} << level;
  }
}

std::vector<Range> equal_parts(int virtual_workers, int ranks) {
  if (ranks < 1 || virtual_workers < ranks) {
    throw UsageError(fmt::format(
        "reduction tree: every rank needs at least one virtual worker, got {} for {} ranks",
        virtual_workers, ranks));
  }
  std::vector<Range> parts;
  for (int rank = 0; rank < ranks; ++rank) parts.push_back(partition(virtual_workers, ranks, rank));
  return parts;
}

}  // namespace

ReductionTree::ReductionTree(int virtual_workers, int ranks)
    : ReductionTree(equal_parts(virtual_workers, ranks)) {}

ReductionTree::ReductionTree(std::span<const Range> parts)
    : virtual_workers_(static_cast<int>(parts.back().end)), parts_(parts.begin(), parts.end()) {
  first_term_.push_back(0);
  for (const Range& part : parts_) {
    append_nodes(part, terms_);
    first_term_.push_back(static_cast<int>(terms_.size()));
  }
  std::vector<Node> stack;
  for (const Node& term : terms_) {
    stack.push_back(term);
    depth_ = std::max(depth_, static_cast<int>(stack.size()));
    int merges = 0;
    while (stack.size() > 1) {
      const Node& right = stack.back();
      const Node& left = stack[stack.size() - 2];
      if (left.level != right.level || (right.index & 1) == 0) break;
      const Node parent{left.level + 1, left.index >> 1};
      stack.pop_back();
      stack.back() = parent;
      ++merges;
    }
    merges_.push_back(merges);
  }
  merges_.back() += static_cast<int>(stack.size()) - 1;
}

std::span<const ReductionTree::Node> ReductionTree::nodes_of(int rank) const {
  return std::span(terms_).subspan(first_term_[rank], first_term_[rank + 1] - first_term_[rank]);
}

}  // namespace trireme
