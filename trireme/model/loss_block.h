#pragma once

#include "trireme/model/block.h"
#include "trireme/model/evaluation.h"
#include "trireme/model/loss.h"

namespace trireme {

/// A last block that computes losses from its input, without holding all of its output: the logits
/// of a large vocabulary.
class LossBlock : public Block {
 public:
  /// `loss` of forward(input) for `target`.
  virtual LossSum loss(const at::Tensor& input, const at::Tensor& target, const Loss& loss) = 0;

  /// loss.evaluate() of forward(input) for `target`.
  virtual EvaluationSums evaluate(const at::Tensor& input, const at::Tensor& target,
                                  const Loss& loss) = 0;
};

}  // namespace trireme
