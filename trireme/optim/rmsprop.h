#pragma once

#include "trireme/optim/optimizer.h"

namespace trireme {

struct RmspropOptions {
  double lr = 1e-2;
  double alpha = 0.99;
  double eps = 1e-8;
  double weight_decay = 0;
  double momentum = 0;
  bool centered = false;
};

/// RMSprop (Tieleman and Hinton 2012, lecture 6.5; centered: Graves 2013, "Generating sequences
/// with recurrent neural networks", equation 38 and after).
///
///     g = gradient + weight_decay * w
///     s = alpha * s + (1 - alpha) * g^2
///     a = alpha * a + (1 - alpha) * g             centered only, else a = 0
///     b = momentum * b + g / (sqrt(s - a^2) + eps)
///     w = w - lr * b
///
/// State: "square_avg" (s), "grad_avg" (a) if centered, "momentum_buffer" (b) with momentum.
class Rmsprop : public Optimizer {
 public:
  /// Throws UsageError for impossible options.
  explicit Rmsprop(std::span<Shard> shards, RmspropOptions options = {});

 private:
  void apply(const Update& part, const Rates& rates, std::span<void* const> state,
             std::int64_t step) override;

  RmspropOptions options_;
};

}  // namespace trireme
