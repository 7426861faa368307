#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

#include <cstdint>

#include "trireme/base/random.h"

namespace trireme::test {

/// Returns normally distributed numbers, which depend on the seed only.
inline at::Tensor random_tensor(at::IntArrayRef shape, std::uint64_t seed,
                                at::ScalarType dtype = at::kFloat) {
  const CounterRandom random(seed);
  const at::Tensor tensor = at::empty(shape, at::kDouble);
  for (std::int64_t i = 0; i < tensor.numel(); ++i) {
    tensor.data_ptr<double>()[i] = random.normal(static_cast<std::uint64_t>(i));
  }
  return tensor.to(dtype);
}

}  // namespace trireme::test
