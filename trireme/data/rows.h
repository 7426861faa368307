#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <span>

#include "trireme/base/partition.h"

namespace trireme {

/// Throws UsageError unless every index lies in `local`; it names the first index that does not.
void check_indices(std::span<const std::int64_t> indices, Range local);

/// Returns rows indices[0] - first, indices[1] - first, ... of `from`, which must be contiguous, as
/// a new tensor. Each row is copied once, faster than by index_select. The indices are not checked.
at::Tensor gather_rows(const at::Tensor& from, std::span<const std::int64_t> indices,
                       std::int64_t first = 0);

}  // namespace trireme
