#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "trireme/base/buffer.h"
#include "trireme/kernels/row_program.h"

namespace trireme {

/// Sums f64 vectors of one rank's virtual workers, given one after another, to the rows that an
/// all_reduce over `tree` takes:
///
///     TreeFold fold(tree, world.rank(), n);
///     for (each virtual worker of this rank) fold.add(values);
///     world.all_reduce(fold.nodes(), tree).wait();   // row 0: the sum of all
class TreeFold {
 public:
  TreeFold(const ReductionTree& tree, int rank, std::int64_t count);

  /// Adds the vector of the next virtual worker: `count` numbers.
  void add(std::span<const double> values);

  /// Returns [nodes of this rank, count]. Call it once every virtual worker has been added.
  Buffer nodes();

 private:
  RowProgram program_;
  std::int64_t count_;
  std::size_t next_ = 0;
  std::vector<double> rows_;
};

}  // namespace trireme
