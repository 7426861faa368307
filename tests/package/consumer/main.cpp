// Uses trireme without libtorch: sums three contributions in the canonical order.
#include <array>
#include <cstdio>

#include "trireme/base/buffer.h"
#include "trireme/kernels/reduce.h"
#include "trireme/kernels/reduction_tree.h"

int main() {
  std::array<double, 2> a{1, 10}, b{2, 20}, c{3, 30}, sum{};
  const std::array<void*, 1> outs{sum.data()};
  const std::array<const void*, 3> terms{a.data(), b.data(), c.data()};
  trireme::tree_reduce(outs, terms, trireme::ReductionTree(3, 3), 2, trireme::DType::kF64,
                       trireme::ReduceOp::kSum);
  std::printf("%g %g\n", sum[0], sum[1]);
  return sum[0] == 6 && sum[1] == 60 ? 0 : 1;
}
