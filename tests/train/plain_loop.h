#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <vector>

namespace trireme::test {

/// The training loop that train() is held against: libtorch's autograd on one thread, the samples
/// in their order, and plain gradient descent with momentum written out.
///
/// A step takes the next `batch` rows of `x` and `y`, of which virtual worker w takes rows w,
/// w + virtual_workers, ...; at the end of the data the rows that are left make a smaller step.
struct PlainLoop {
  at::Tensor x;
  at::Tensor y;
  std::int64_t batch = 0;
  std::int64_t virtual_workers = 1;
  std::int64_t steps = 0;
  double lr = 0;
  double momentum = 0;
  double clip_norm = 0;  ///< 0: none
  std::function<at::Tensor(const std::vector<at::Tensor>& parameters, const at::Tensor& x)> forward;

  /// Trains `parameters` in place. Returns each step's mean squared error over its rows, before
  /// the update. The gradients of four virtual workers are summed as (0 + 1) + (2 + 3).
  std::vector<double> train(std::vector<at::Tensor>& parameters) const;
};

}  // namespace trireme::test
