#pragma once

#include <span>
#include <string>
#include <vector>

#include "trireme/base/region.h"

namespace trireme {

/// Throws UsageError, which names the tensor, unless its regions together hold every element of
/// `shape` exactly once. Regions must have that full shape, and either equal cuts or cuts without a
/// common element. Takes no time or memory in proportion to the tensor.
void require_exact_cover(const std::string& tensor, const TensorShape& shape,
                         std::vector<const Region*> regions);

}  // namespace trireme
