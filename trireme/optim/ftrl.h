#pragma once

#include "trireme/optim/optimizer.h"

namespace trireme {

struct FtrlOptions {
  double lr = 1e-2;
  double beta = 1;
  double l1 = 0;
  double l2 = 0;
};

/// FTRL-Proximal with a learning rate for each coordinate, for sparse linear models (McMahan et al.
/// 2013, "Ad Click Prediction: a View from the Trenches", algorithm 1). In each step:
///
///     s = (sqrt(n + g^2) - sqrt(n)) / lr
///     z = z + g - s * w
///     n = n + g^2
///     w = 0 if |z| <= l1, else -(z - sign(z) * l1) / ((beta + sqrt(n)) / lr + l2)
///
/// State: "z" and "n". The rule assumes that weights start at zero: a first update discards other
/// values.
class Ftrl : public Optimizer {
 public:
  /// Throws UsageError for impossible options.
  explicit Ftrl(std::span<Shard> shards, FtrlOptions options = {});

 private:
  void apply(const Update& part, const Rates& rates, std::span<void* const> state,
             std::int64_t step) override;

  FtrlOptions options_;
};

}  // namespace trireme
