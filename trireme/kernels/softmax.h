#pragma once

#include <cstdint>
#include <span>

#include "trireme/base/buffer.h"

namespace trireme {

// Rows of softmax, each in one thread and in an order of its own: the bits of a row depend neither
// on the other rows nor on how rows are divided into calls. All functions throw UsageError unless
// the values are f32 or f64.

/// Rows of attention scores, [rows, columns]. Row i attends to the columns [begin[i], end[i]),
/// which must not be empty and lie in [0, columns).
struct AttentionRows {
  std::int64_t columns = 0;
  std::span<const std::int32_t> begin;
  std::span<const std::int32_t> end;
  double scale = 1;  ///< of the scores
};

/// Replaces each row x by softmax(scale * x) over its columns and by 0 outside of them.
void attention_softmax(Buffer scores, const AttentionRows& rows);

/// With the probabilities p of attention_softmax() and their gradient, replaces the gradient by
/// that of the scores: scale * p * (g - sum(g * p)).
void attention_softmax_backward(Buffer gradient, Buffer probabilities, const AttentionRows& rows);

/// What a loss over the logits of a vocabulary adds to the negative log-likelihood.
struct VocabularyLossTerms {
  /// In [0, 1): this share of each target is spread evenly over the vocabulary (Szegedy et al.
  /// 2016, section 7).
  double label_smoothing = 0;
  /// Weight of log(sum(exp(logits)))^2 (Chowdhery et al. 2022, section 5).
  double z_loss = 0;
};

/// Sums over rows of logits.
struct VocabularyLossSums {
  double loss = 0;
  double counted = 0;  ///< rows that count
  double correct = 0;  ///< rows whose target has the largest logit, the first of equal ones
};

/// Sums the losses of the rows of `logits`, [targets.size(), vocabulary]. A target of `ignored`
/// does not count; the others must lie in [0, vocabulary).
VocabularyLossSums vocabulary_loss(Buffer logits, std::span<const std::int64_t> targets,
                                   std::int64_t ignored, const VocabularyLossTerms& terms);

/// The same, and replaces the logits by the gradient of the sum.
VocabularyLossSums vocabulary_loss_and_gradient(Buffer logits,
                                                std::span<const std::int64_t> targets,
                                                std::int64_t ignored,
                                                const VocabularyLossTerms& terms);

}  // namespace trireme
