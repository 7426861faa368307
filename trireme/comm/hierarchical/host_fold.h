#pragma once

#include <functional>
#include <vector>

#include "trireme/comm/hierarchical/hosts.h"
#include "trireme/kernels/reduce.h"
#include "trireme/kernels/reduction_tree.h"

namespace trireme::hosts {

/// The sum that ranks of one host can take of a ReductionTree among themselves: those nodes of the
/// tree that lie wholly in the host. What is left, the sum over hosts, is again a ReductionTree.
class HostFold {
 public:
  HostFold(const ReductionTree& tree, const Hosts& hosts);

  /// Over hosts: `over_hosts().nodes_of(h)` are the rows that host h sums.
  const ReductionTree& over_hosts() const { return over_hosts_; }
  int rows() const { return static_cast<int>(nodes_.size()); }

  /// Type of the partial sums: f32 for f16 and bf16, so that they are rounded only once, at the
  /// end, as in a sum that knows no hosts.
  static DType partial_type(DType dtype);

  /// Sums this host's terms into `out`: [rows(), count] of partial_type(dtype). `term(local, row)`
  /// points to `count` elements of what the local-th rank of this host holds as its row-th node.
  void sum(const std::function<const void*(int local, int row)>& term, std::int64_t count,
           DType dtype, ReduceOp op, void* out) const;

 private:
  struct Node {
    ReductionTree tree;  // over the parts that ranks of this host have of it
    struct Term {
      int local;
      int row;
    };
    std::vector<Term> terms;
  };

  ReductionTree over_hosts_;
  std::vector<Node> nodes_;
};

}  // namespace trireme::hosts
