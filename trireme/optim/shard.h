#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "trireme/base/buffer.h"
#include "trireme/kernels/reduction_tree.h"

namespace trireme {

/// The slice of one parameter that this rank updates: the one description that strategy, optimizer
/// and checkpoint share.
struct Shard {
  std::string name;                      ///< of the parameter: "fc1.weight"
  std::vector<std::int64_t> full_shape;  ///< of the whole parameter
  std::int64_t offset = 0;               ///< of this slice in the whole parameter, flattened
  Buffer values;                         ///< the slice; writing here changes the parameter
  /// Where its gradient lies: the terms of `tree`, each as long as `values`, whose sum divided by
  /// `divisor` is the gradient; or, with tree == nullptr, one pointer to the gradient itself.
  std::vector<const void*> gradient;
  const ReductionTree* tree = nullptr;
  double divisor = 0;  ///< 0: the number of virtual workers of `tree`
  /// False in a step in which no virtual worker had a gradient for it: it is then left alone.
  bool has_gradient = true;
};

}  // namespace trireme
