#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string_view>

#include "trireme/data/dataset.h"
#include "trireme/kernels/softmax.h"
#include "trireme/model/evaluation.h"

namespace trireme {

/// The loss of a micro-batch. Never a mean: a step divides once, by the weight of all its
/// micro-batches together, so that the gradient does not depend on how they are cut.
struct LossSum {
  at::Tensor sum;     ///< over the samples or tokens that count; backward() starts here
  double weight = 0;  ///< how many samples or tokens that is
};

/// How far a model's outputs are from the targets:
///
///     mse               outputs [n, width]: mean over width of (output - y)^2, per sample
///     bce_with_logits   outputs [n, 1], the log-odds of class 1 against class 0, per sample
///     cross_entropy     outputs [n, classes], log-probabilities up to a constant, per sample; for
///                       tokens [n, length, classes], per token that is not Target::kIgnored
///
/// Targets are those of Target::Kind; [n] and [n, 1] are the same here.
class Loss {
 public:
  enum class Kind : std::uint8_t { kMse, kBceWithLogits, kCrossEntropy };

  /// Returns the number of outputs that a model must have for a sample or a token.
  std::int64_t outputs() const { return outputs_; }
  Kind kind() const { return kind_; }
  /// What a cross-entropy has beside the negative log-likelihood, in training.
  const VocabularyLossTerms& terms() const { return terms_; }

  /// Throws UsageError if the outputs do not have the shape above.
  LossSum operator()(const at::Tensor& output, const at::Tensor& target) const;

  /// Returns the batch's contribution to the sums over an evaluation set, in f64, without
  /// gradients.
  ///
  /// For target numbers: R^2 is as exact as the sums are small, so `shift` should be near the
  /// targets; it must be the same for all batches of an evaluation set. With one of the targets as
  /// the shift, equal targets are recognized as such.
  EvaluationSums evaluate(const at::Tensor& output, const at::Tensor& target,
                          double shift = 0) const;

 private:
  friend Loss make_loss(const Target& target, std::string_view name,
                        const VocabularyLossTerms& terms);
  Loss(Kind kind, const Target& target, std::int64_t outputs, const VocabularyLossTerms& terms)
      : kind_(kind), target_(target), outputs_(outputs), terms_(terms) {}

  at::Tensor rows_of(const at::Tensor& output) const;
  at::Tensor cross_entropy(const at::Tensor& rows, const at::Tensor& classes) const;

  Kind kind_;
  Target target_;
  std::int64_t outputs_;
  VocabularyLossTerms terms_;
};

/// By name, or "auto": mse for numbers, bce_with_logits for two classes, and cross_entropy for more
/// and for tokens. Throws UsageError if the name is unknown or does not suit the target, or if
/// there are `terms` of a cross-entropy for another loss.
Loss make_loss(const Target& target, std::string_view name = "auto",
               const VocabularyLossTerms& terms = {});

}  // namespace trireme
