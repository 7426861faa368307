#include "trireme/kernels/tree_fold.h"

#include <algorithm>

#include "trireme/kernels/reduce.h"

namespace trireme {

TreeFold::TreeFold(const ReductionTree& tree, int rank, std::int64_t count)
    : program_(tree, rank), count_(count), rows_(static_cast<std::size_t>(program_.rows * count)) {}

void TreeFold::add(std::span<const double> values) {
  auto [row, merges] = program_.steps[next_++];
  std::copy(values.begin(), values.end(), rows_.begin() + row * count_);
  for (; merges > 0; --merges, --row) {
    double* below = rows_.data() + (row - 1) * count_;
    accumulate({below, count_, DType::kF64}, below + count_);
  }
}

Buffer TreeFold::nodes() {
  return {rows_.data(), program_.nodes * count_, DType::kF64};
}

}  // namespace trireme
