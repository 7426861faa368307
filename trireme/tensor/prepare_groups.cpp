#include "trireme/tensor/prepare_groups.h"

#include <algorithm>

#include "trireme/base/error.h"

namespace trireme {

void prepare_groups(const NamedTensors& model, std::span<const ParameterGroup> groups) {
  std::vector<ParameterInfo> parameters;
  for (const auto& [name, tensor] : model.parameters) {
    parameters.push_back({name, tensor.sizes().vec()});
  }
  check_groups(groups, parameters);
  const auto is_frozen = [&](const ParameterInfo& parameter) {
    const ParameterGroup* group = group_of(groups, parameter);
    return group != nullptr && !group->trainable;
  };
  if (!parameters.empty() && std::ranges::all_of(parameters, is_frozen)) {
    throw UsageError("optimizer.groups: every parameter is in a group with trainable = false");
  }
  for (std::size_t p = 0; p < parameters.size(); ++p) {
    if (is_frozen(parameters[p])) model.parameters[p].second.requires_grad_(false);
  }
}

}  // namespace trireme
