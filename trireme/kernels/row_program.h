#pragma once

#include <vector>

#include "trireme/kernels/reduction_tree.h"

namespace trireme {

/// How one rank folds the contributions of its virtual workers, which come one after another, into
/// the rows that ReductionTree asks of it: a stack of rows. Leaf i is written to row `row`; then
/// `merges` times the top row is added to the one below it. In the end rows 0, 1, ... are the
/// rank's nodes, left to right.
struct RowProgram {
  struct Leaf {
    int row = 0;
    int merges = 0;
  };

  RowProgram(const ReductionTree& tree, int rank);

  std::vector<Leaf> leaves;  ///< one for each virtual worker of the rank
  int rows = 0;              ///< the most that are in use at once
  int nodes = 0;             ///< those left in the end
};

}  // namespace trireme
