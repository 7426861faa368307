#pragma once

#include "trireme/optim/optimizer.h"

namespace trireme {

struct AdamOptions {
  double lr = 1e-3;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double eps = 1e-8;
  double weight_decay = 0;
};

/// Adam (Kingma and Ba 2015, algorithm 1). In step t:
///
///     g = gradient + weight_decay * w
///     m = beta1 * m + (1 - beta1) * g
///     v = beta2 * v + (1 - beta2) * g^2
///     w = w - lr * (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps)
///
/// State: "exp_avg" (m) and "exp_avg_sq" (v). 28 bytes of memory traffic a parameter in f32.
class Adam : public Optimizer {
 public:
  /// Throws UsageError for impossible options.
  explicit Adam(std::span<Shard> shards, AdamOptions options = {});

 private:
  void apply(const Update& part, const Rates& rates, std::span<void* const> state,
             std::int64_t step) override;

  AdamOptions options_;
};

struct AdamWOptions {
  double lr = 1e-3;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double eps = 1e-8;
  double weight_decay = 1e-2;
};

/// Adam with decoupled weight decay (Loshchilov and Hutter 2019, algorithm 2): g is the gradient
/// alone, and w is multiplied by 1 - lr * weight_decay before it moves. State as Adam's.
class AdamW : public Optimizer {
 public:
  /// Throws UsageError for impossible options.
  explicit AdamW(std::span<Shard> shards, AdamWOptions options = {});

 private:
  void apply(const Update& part, const Rates& rates, std::span<void* const> state,
             std::int64_t step) override;

  AdamWOptions options_;
};

}  // namespace trireme
