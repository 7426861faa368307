#pragma once

#include <torch/nn/modules/batchnorm.h>
#include <torch/nn/modules/linear.h>

#include <cstdint>

#include "tests/tensor/random_tensor.h"

namespace trireme::test {

/// A network with five inputs, batch normalization and one output, which is equal on every rank.
struct SmallNet : torch::nn::Module {
  explicit SmallNet(at::ScalarType dtype = at::kFloat) {
    first = register_module("first", torch::nn::Linear(5, 9));
    norm = register_module("norm", torch::nn::BatchNorm1d(9));
    second = register_module("second", torch::nn::Linear(9, 1));
    to(dtype);
    std::uint64_t seed = 1;
    const at::NoGradGuard no_grad;
    for (at::Tensor& p : parameters()) p.copy_(random_tensor(p.sizes(), seed++, dtype).mul_(0.3));
  }

  at::Tensor forward(const at::Tensor& x) { return second(norm(first(x)).tanh()); }

  torch::nn::Linear first{nullptr}, second{nullptr};
  torch::nn::BatchNorm1d norm{nullptr};
};

}  // namespace trireme::test
