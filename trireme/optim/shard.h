#pragma once

#include <string>
#include <vector>

#include "trireme/base/buffer.h"
#include "trireme/base/region.h"
#include "trireme/base/state_tensor.h"
#include "trireme/kernels/reduction_tree.h"

namespace trireme {

/// The region of one parameter that this rank updates.
struct Shard {
  std::string name;  ///< of the parameter: "fc1.weight"
  Region region;     ///< of the parameter
  Buffer values;     ///< the region's elements; writing here changes the parameter
  /// The gradient is the sum of the terms of `tree`, each as long as `values`, divided by
  /// `divisor`. With tree == nullptr there is one term, the gradient itself.
  std::vector<const void*> gradient;
  const ReductionTree* tree = nullptr;
  double divisor = 0;  ///< 0: the number of virtual workers, tree->virtual_workers()
  /// False in a step in which no virtual worker had a gradient for it; the shard is then not
  /// updated.
  bool has_gradient = true;
  bool is_written = true;  ///< false if another rank has the same region and writes it

  /// The values under their name in a checkpoint.
  StateTensor state() const {
    return {.name = name, .region = region, .values = values, .is_written = is_written};
  }
};

}  // namespace trireme
