#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "trireme/model/init.h"
#include "trireme/tensor/named_tensors.h"

namespace trireme {

/// True for what a model is mostly made of: parameters of two and more dimensions.
bool is_weight(const at::Tensor& parameter);

/// Frees the memory of the weights among the parameters, which keep their shapes and types: they
/// are NaN from now on, and writing to them ends the process. A model larger than a rank's memory
/// is built by freeing the weights of each block before the next one is made: see
/// Model::defer_weights().
void free_weights(const NamedTensors& tensors);

/// Weights without memory, and what gives them their initial values.
class DeferredWeights {
 public:
  DeferredWeights() = default;
  /// Frees the weights of `tensors`.
  DeferredWeights(const NamedTensors& tensors, InitialValues values);

  bool is_empty() const { return weights_.empty(); }
  bool contain(const at::Tensor& parameter) const;

  /// The initial values of one of them, in new memory.
  at::Tensor initial_values(const NamedTensor& weight) const;

 private:
  std::vector<at::Tensor> weights_;
  InitialValues values_;
};

}  // namespace trireme
