#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

#include "trireme/base/buffer.h"
#include "trireme/base/region.h"
#include "trireme/optim/shard.h"
#include "trireme/train/verify.h"

namespace trireme {

/// A tensor, or the region of it that a rank holds, after a step.
struct StepValue {
  std::string kind;  ///< as in Verification::compared
  std::string name;
  Region region;
  Buffer values;                    ///< no memory for a gradient
  const Shard* shard = nullptr;     ///< of a gradient
  at::Tensor owner = at::Tensor();  ///< of memory that would end before
};

/// Returns what this rank holds of the loss, the gradients, the norm, the parameters, the state of
/// the optimizer and the buffers, in this order. A parameter that the model and a shard hold in the
/// same memory comes once. Memory belongs to `step`, which must outlive the result, and to its
/// strategy and optimizer until the next step begins. `with_shards`: false leaves out gradients and
/// the state of the optimizer.
std::vector<StepValue> values_of(const ComparedStep& step, bool with_shards);

/// Returns the elements of `value`, of which those of a gradient are summed into `scratch`, of
/// value.values.bytes().
Buffer elements_of(const StepValue& value, void* scratch);

/// Returns an element with as many digits as its type needs.
std::string text_of(Buffer values, std::int64_t index);

/// How a region differs from the whole tensor.
struct RegionDifference {
  std::int64_t elements = 0;  ///< that differ; the others are of the first one
  std::int64_t index = 0;     ///< in the whole tensor
  std::string value;
  std::string expected;
};

/// Compares `own`, the elements of `region`, with those of the whole tensor `expected`, of the same
/// type. `bound`: VerifyOptions::bound.
RegionDifference compare_region(const Region& region, Buffer own, Buffer expected, double bound);

}  // namespace trireme
