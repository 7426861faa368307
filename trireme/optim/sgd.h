#pragma once

#include "trireme/optim/optimizer.h"

namespace trireme {

struct SgdOptions {
  double lr = 1e-3;
  double momentum = 0;
  double dampening = 0;
  double weight_decay = 0;
  bool nesterov = false;
};

/// Stochastic gradient descent with momentum (Polyak 1964; Nesterov's as in Sutskever et al. 2013,
/// "On the importance of initialization and momentum in deep learning").
///
///     g = gradient + weight_decay * w
///     b = momentum * b + (1 - dampening) * g      b = g in the first step
///     w = w - lr * b                              nesterov: w - lr * (g + momentum * b)
///
/// State: "momentum_buffer", unless the momentum is 0.
class Sgd : public Optimizer {
 public:
  /// Throws UsageError for impossible options.
  explicit Sgd(std::span<Shard> shards, SgdOptions options = {});

 private:
  void apply(const Update& part, const Rates& rates, std::span<void* const> state,
             std::int64_t step) override;

  SgdOptions options_;
};

}  // namespace trireme
