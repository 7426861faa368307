#pragma once

#include <vector>

#include "trireme/kernels/reduction_tree.h"

namespace trireme {

/// How one rank sums the contributions of its virtual workers, one after another, to its nodes of a
/// ReductionTree. The rows are a stack: the i-th contribution is written to row `row` of steps[i],
/// then the top row is added to the row below it `merges` times. After the last step rows 0, 1, ...
/// are the rank's nodes, left to right.
struct RowProgram {
  struct Step {
    int row = 0;
    int merges = 0;
  };

  RowProgram(const ReductionTree& tree, int rank);

  std::vector<Step> steps;  ///< one for each virtual worker of the rank
  int rows = 0;             ///< the most rows in use at once
  int nodes = 0;            ///< rows in use after the last step
};

}  // namespace trireme
