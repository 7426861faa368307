#pragma once

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>

#include <algorithm>
#include <cstdint>

#include "trireme/tensor/named_tensors.h"

namespace trireme {

/// For elementwise functions of contiguous tensors of one size: calls function(buffer, ...) with
/// the same part of each tensor, on the threads of the rank.
template <class Function, class... Tensors>
void in_parts(const Function& function, const Tensors&... tensors) {
  constexpr std::int64_t kElementsOfThread = 1 << 14;
  const std::int64_t count = std::max({tensors.numel()...});
  at::parallel_for(0, count, kElementsOfThread, [&](std::int64_t begin, std::int64_t end) {
    function(buffer_of(tensors).slice(begin, end - begin)...);
  });
}

}  // namespace trireme
