#pragma once

#include "trireme/optim/optimizer.h"

namespace trireme {

struct AdagradOptions {
  double lr = 1e-2;
  double lr_decay = 0;
  double eps = 1e-10;
  double weight_decay = 0;
  double initial_accumulator = 0;
};

/// Adagrad with a diagonal matrix (Duchi, Hazan and Singer 2011, figure 1). In step t:
///
///     g = gradient + weight_decay * w
///     s = s + g^2                                 from initial_accumulator on
///     w = w - lr / (1 + (t - 1) * lr_decay) * g / (sqrt(s) + eps)
///
/// State: "sum" (s).
class Adagrad : public Optimizer {
 public:
  /// Throws UsageError for impossible options.
  explicit Adagrad(std::span<Shard> shards, AdagradOptions options = {});

 private:
  void apply(const Update& part, const Rates& rates, std::span<void* const> state,
             std::int64_t step) override;

  AdagradOptions options_;
};

}  // namespace trireme
