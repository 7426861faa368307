#pragma once

#include <functional>
#include <vector>

#include "trireme/comm/hierarchical/hosts.h"
#include "trireme/kernels/reduce.h"
#include "trireme/kernels/reduction_tree.h"

namespace trireme::hosts {

/// The part of a ReductionTree that the ranks of one host can sum among themselves: the nodes that
/// lie wholly in the host. The rest, the sum over hosts, is again a ReductionTree.
class HostFold {
 public:
  HostFold(const ReductionTree& tree, const Hosts& hosts);

  /// The sum over hosts: `over_hosts().nodes_of(h)` are the rows that host h sums.
  const ReductionTree& over_hosts() const { return over_hosts_; }
  int rows() const { return static_cast<int>(nodes_.size()); }

  /// Type of the partial sums: f32 for f16 and bf16, so that they are rounded only once, at the
  /// end, as in a sum on one host.
  static DType partial_type(DType dtype);

  /// Sums this host's terms into `out`: [rows(), count] of partial_type(dtype). `term(local, row)`
  /// points to `count` elements of the row-th node of the local-th rank of this host.
  void sum(const std::function<const void*(int local, int row)>& term, std::int64_t count,
           DType dtype, ReduceOp op, void* out) const;

 private:
  struct Node {
    ReductionTree tree;  // over the parts of the node that ranks of this host hold
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
