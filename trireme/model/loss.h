#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string_view>

#include "trireme/data/dataset.h"
#include "trireme/model/evaluation.h"

namespace trireme {

/// How far a model's outputs are from the targets, per sample:
///
///     mse               outputs [n, width]: mean over width of (output - y)^2
///     bce_with_logits   outputs [n, 1], the log-odds of class 1 against class 0
///     cross_entropy     outputs [n, classes], log-probabilities up to a constant
///
/// Targets are numbers [n, width] for mse and classes [n], counted from 0, for the others; [n] and
/// [n, 1] are the same here.
class Loss {
 public:
  enum class Kind : std::uint8_t { kMse, kBceWithLogits, kCrossEntropy };

  /// The number of outputs a model must have for a sample.
  std::int64_t outputs() const { return outputs_; }
  Kind kind() const { return kind_; }

  /// The mean over the batch, for backward. Throws UsageError if the outputs are not
  /// [n, outputs()].
  at::Tensor operator()(const at::Tensor& output, const at::Tensor& target) const;

  /// The batch's contribution to the sums over an evaluation set, in f64, without gradients.
  EvaluationSums evaluate(const at::Tensor& output, const at::Tensor& target) const;

 private:
  friend Loss make_loss(const Target& target, std::string_view name);
  Loss(Kind kind, std::int64_t outputs) : kind_(kind), outputs_(outputs) {}

  Kind kind_;
  std::int64_t outputs_;
};

/// By name, or "auto": mse for numbers, bce_with_logits for two classes and cross_entropy for
/// more. Throws UsageError if the name is unknown or does not suit the target.
Loss make_loss(const Target& target, std::string_view name = "auto");

}  // namespace trireme
