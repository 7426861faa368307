#pragma once

#include <cstdint>

#include "trireme/base/buffer.h"

namespace trireme {

// Optimizer updates, each one pass over memory. The order of the operations is torch::optim's, so
// that results agree to rounding; every element is computed alone and without fused multiply-adds,
// so that the bits depend neither on the machine nor on how the elements are cut into calls. State
// has the count and type of the values. All throw UsageError unless the values are f32 or f64.

/// What is updated, and the gradient as the update shall see it: times `scale`, then cut to
/// [-clip_value, clip_value]; 0 turns the cut off. A NaN stays a NaN.
struct Update {
  Buffer values;
  const void* gradient = nullptr;
  double scale = 1;
  double clip_value = 0;
};

struct SgdRule {
  double lr = 1e-3;
  double momentum = 0;
  double dampening = 0;
  double weight_decay = 0;
  bool nesterov = false;
  /// The buffer starts as the gradient itself, undamped, as in torch.
  bool first_step = false;
};

/// `momentum_buffer` may be null if the momentum is 0.
void update_sgd(const Update& update, const SgdRule& rule, void* momentum_buffer);

struct AdamRule {
  double lr = 1e-3;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double eps = 1e-8;
  double weight_decay = 0;
  /// The decay shrinks the values themselves (AdamW) and does not join the gradient (Adam).
  bool decoupled = false;
  /// Of this update, counted from 1: for the bias corrections.
  std::int64_t step = 1;
};

void update_adam(const Update& update, const AdamRule& rule, void* exp_avg, void* exp_avg_sq);

struct RmspropRule {
  double lr = 1e-2;
  double alpha = 0.99;
  double eps = 1e-8;
  double weight_decay = 0;
  double momentum = 0;
};

/// `grad_avg` null: not centered. `momentum_buffer` may be null if the momentum is 0.
void update_rmsprop(const Update& update, const RmspropRule& rule, void* square_avg, void* grad_avg,
                    void* momentum_buffer);

struct AdagradRule {
  /// Of this step, the decay over steps included.
  double lr = 1e-2;
  double eps = 1e-10;
  double weight_decay = 0;
};

void update_adagrad(const Update& update, const AdagradRule& rule, void* sum);

struct FtrlRule {
  double lr = 1e-2;
  double beta = 1;
  double l1 = 0;
  double l2 = 0;
};

/// `z` and `n` as in McMahan et al. 2013, algorithm 1.
void update_ftrl(const Update& update, const FtrlRule& rule, void* z, void* n);

}  // namespace trireme
