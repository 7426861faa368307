#include "trireme/model/deferred_weights.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <memory>
#include <utility>

#include "trireme/tensor/poisoned_tensor.h"

namespace trireme {

bool is_weight(const at::Tensor& parameter) {
  return parameter.dim() >= 2;
}

void free_weights(const NamedTensors& tensors) {
  std::size_t largest = 0;
  for (const auto& [name, tensor] : tensors.parameters) {
    if (is_weight(tensor)) largest = std::max(largest, tensor.nbytes());
  }
  const auto poison = std::make_shared<PoisonedMemory>(largest);
  for (const auto& [name, tensor] : tensors.parameters) {
    if (is_weight(tensor)) tensor.set_data(poisoned_tensor(tensor, poison));
  }
}

DeferredWeights::DeferredWeights(const NamedTensors& tensors, InitialValues values)
    : values_(std::move(values)) {
  free_weights(tensors);
  for (const auto& [name, tensor] : tensors.parameters) {
    if (is_weight(tensor)) weights_.push_back(tensor);
  }
}

bool DeferredWeights::contain(const at::Tensor& parameter) const {
  return std::ranges::any_of(weights_,
                             [&](const at::Tensor& weight) { return weight.is_same(parameter); });
}

at::Tensor DeferredWeights::initial_values(const NamedTensor& weight) const {
  const auto& [name, tensor] = weight;
  at::Tensor values = at::empty(tensor.sizes(), tensor.options().requires_grad(false));
  values_({name, values});
  return values;
}

}  // namespace trireme
