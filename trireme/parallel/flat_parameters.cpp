#include "trireme/parallel/flat_parameters.h"

#include <ATen/ATen.h>

#include <algorithm>

namespace trireme {

FlatParameters::FlatParameters(const NamedTensors& model) {
  std::int64_t at = 0;
  for (const auto& [name, tensor] : model.parameters) {
    if (!tensor.requires_grad()) continue;
    parameters_.push_back({name, tensor, {at, at + tensor.numel()}});
    at += tensor.numel();
    if (tensor.scalar_type() == at::kDouble) dtype_ = DType::kF64;
  }
}

std::vector<at::Tensor> FlatParameters::parts(Range range) const {
  std::vector<at::Tensor> parts;
  for (const Parameter& parameter : parameters_) {
    const std::int64_t first = std::max(range.begin, parameter.range.begin);
    const std::int64_t last = std::min(range.end, parameter.range.end);
    if (first >= last) continue;
    const std::int64_t offset = first - parameter.range.begin;
    parts.push_back(parameter.tensor.detach().view(-1).narrow(0, offset, last - first));
  }
  return parts;
}

void FlatParameters::read(Range range, const at::Tensor& flat) const {
  std::int64_t at = 0;
  for (const at::Tensor& part : parts(range)) {
    flat.narrow(0, at, part.numel()).copy_(part);
    at += part.numel();
  }
}

void FlatParameters::write(Range range, const at::Tensor& flat) const {
  std::int64_t at = 0;
  for (const at::Tensor& part : parts(range)) {
    part.copy_(flat.narrow(0, at, part.numel()));
    at += part.numel();
  }
}

}  // namespace trireme
