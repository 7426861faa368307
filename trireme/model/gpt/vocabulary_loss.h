#pragma once

#include <ATen/core/Tensor.h>

#include "trireme/model/evaluation.h"
#include "trireme/model/loss.h"
#include "trireme/model/products.h"

namespace trireme {

/// The cross-entropy of the logits hidden weight^T over a vocabulary, summed over the tokens that
/// count, with the terms of `loss`.
///
/// hidden: [n, length, width]; weight: [vocabulary, width]; target: [n, length] i64. The logits
/// exist for some tokens at a time only: with gradients enabled they and the gradients of hidden
/// and weight are computed in this call, chunk by chunk, and the backward pass hands them over.
/// Throws UsageError for other shapes and for targets outside the vocabulary.
LossSum vocabulary_loss(const at::Tensor& hidden, const at::Tensor& weight,
                        const at::Tensor& target, const Loss& loss,
                        const ComputeType& compute = {});

/// The same sums for an evaluation, without gradients and without what is added to the negative
/// log-likelihood.
EvaluationSums evaluate_vocabulary(const at::Tensor& hidden, const at::Tensor& weight,
                                   const at::Tensor& target, const ComputeType& compute = {});

}  // namespace trireme
