#pragma once

#include "trireme/optim/optimizer.h"

namespace trireme {

struct MuonOptions {
  double lr = 2e-2;
  double momentum = 0.95;
  double weight_decay = 0;
  std::int64_t newton_schulz_steps = 5;
  /// The options of AdamW, for the parameters that it updates.
  double adamw_lr_factor = 0.015;  ///< learning rate of AdamW / learning rate
  double beta1 = 0.9;
  double beta2 = 0.999;
  double eps = 1e-8;
};

/// Muon for the hidden matrices, AdamW for the rest (Jordan et al. 2024, "Muon: an optimizer for
/// hidden layers in neural networks", kellerjordan.github.io/posts/muon). For a matrix:
///
///     b = momentum * b + gradient
///     x = orthogonalize(gradient + momentum * b)              Nesterov; see orthogonalize()
///     w = w * (1 - lr * weight_decay) - lr * sqrt(max(1, outputs / inputs)) * x
///
/// Embeddings, output layers, biases and norms (kind_of()) are updated by AdamW with lr *
/// adamw_lr_factor and the same weight decay; ParameterGroup::rule chooses otherwise, and has to
/// for an output layer of another name. A weight of more than two dimensions is [out, all others].
/// A weight that joins several maps, as query, key and value in one, is one matrix: what its parts
/// are is the model's knowledge. It needs whole matrices. State: "momentum_buffer" (b); of AdamW
/// "exp_avg" and "exp_avg_sq".
class Muon : public Optimizer {
 public:
  /// Throws UsageError for impossible options, and for matrices that are not whole.
  explicit Muon(std::span<Shard> shards, MuonOptions options = {});

 private:
  void apply(const Update& part, const Rates& rates, std::span<void* const> state,
             std::int64_t step) override;
  void apply_adamw(const Update& part, const Rates& rates, std::span<void* const> state,
                   std::int64_t step) const;

  MuonOptions options_;
};

}  // namespace trireme
