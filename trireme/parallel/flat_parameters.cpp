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
  for (const Parameter& slice : slices(range)) parts.push_back(slice.tensor.view(-1));
  return parts;
}

std::vector<FlatParameters::Parameter> FlatParameters::slices(Range range) const {
  std::vector<Parameter> slices;
  for (const Parameter& parameter : parameters_) {
    const Range whole = parameter.range;
    const Range slice{std::max(range.begin, whole.begin), std::min(range.end, whole.end)};
    if (slice.begin >= slice.end) continue;
    at::Tensor values = parameter.tensor.detach();
    if (slice != whole) values = values.view(-1).narrow(0, slice.begin - whole.begin, slice.size());
    slices.push_back({parameter.name, std::move(values), slice});
  }
  return slices;
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
