#pragma once

#include "trireme/optim/optimizer.h"

namespace trireme {

struct LambOptions {
  double lr = 1e-3;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double eps = 1e-6;
  double weight_decay = 1e-2;
};

/// LAMB, for large batches (You et al. 2020, "Large batch optimization for deep learning: training
/// BERT in 76 minutes", algorithm 2). In step t, for each tensor:
///
///     m = beta1 * m + (1 - beta1) * gradient
///     v = beta2 * v + (1 - beta2) * gradient^2
///     u = (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps) + weight_decay * w
///     w = w - lr * |w| / |u| * u
///
/// |.| is the L2 norm of the tensor, computed in f64; the ratio is 1 if either norm is zero and has
/// no other limits (the paper's phi is the identity). It needs whole tensors. State: "exp_avg" (m)
/// and "exp_avg_sq" (v).
class Lamb : public Optimizer {
 public:
  /// Throws UsageError for impossible options, and for shards that are not whole tensors.
  explicit Lamb(std::span<Shard> shards, LambOptions options = {});

 private:
  void apply(const Update& part, const Rates& rates, std::span<void* const> state,
             std::int64_t step) override;

  LambOptions options_;
};

}  // namespace trireme
