#pragma once

#include <cstdint>

#include "trireme/base/buffer.h"

namespace trireme {

// Optimizer updates, each in one pass over memory. Operations have the order of torch::optim, so
// that results agree to rounding. Every element is computed by itself and without fused
// multiply-adds, so that the bits depend neither on the machine nor on how the elements are divided
// into calls. State has the count and type of the values. All functions throw UsageError unless the
// values are f32 or f64.

/// The values to update, and their gradient. The update uses the gradient times `scale`, limited to
/// [-clip_value, clip_value]; 0 means no limit. A NaN stays a NaN.
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
  /// The buffer is set to the gradient, without dampening, as in torch.
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
  /// The decay multiplies the values (AdamW) and is not added to the gradient (Adam).
  bool decoupled = false;
  /// The number of this update, from 1, for the bias corrections.
  std::int64_t step = 1;
};

void update_adam(const Update& update, const AdamRule& rule, void* exp_avg, void* exp_avg_sq);

/// LAMB's direction in step `rule.step`, after an update of the moments:
///
///     (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps) + weight_decay * w
///
/// Writes it to `direction`, which has the count and type of the values; they stay as they are.
void lamb_direction(const Update& update, const AdamRule& rule, void* exp_avg, void* exp_avg_sq,
                    void* direction);

/// Subtracts lr * ratio times lamb_direction(), computed again from the moments, from the values.
void update_lamb(const Buffer& values, const AdamRule& rule, double ratio, void* exp_avg,
                 void* exp_avg_sq);

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
  /// The learning rate of this step, with its decay over steps.
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
