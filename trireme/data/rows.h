#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <span>

#include "trireme/base/partition.h"

namespace trireme {

/// Throws UsageError unless every index lies in `local`, naming the first that does not.
void check_indices(std::span<const std::int64_t> indices, Range local);

/// Rows indices[0] - first, indices[1] - first, ... of `from`, which must be contiguous, as one new
/// tensor: one copy of each row, without what index_select spends on generality. The indices are
/// not checked.
at::Tensor gather_rows(const at::Tensor& from, std::span<const std::int64_t> indices,
                       std::int64_t first = 0);

}  // namespace trireme
