#pragma once

#include <span>

#include "trireme/optim/parameter_groups.h"
#include "trireme/tensor/named_tensors.h"

namespace trireme {

/// Prepares a model for groups of parameters: throws UsageError for a group that matches no
/// parameter, see check_groups(), and then freezes the parameters of the groups that are not
/// trainable: they require no gradient from now on. Must be called before Strategy::attach().
///
///     prepare_groups(tensors_of(*model), options.groups);
///     auto optimizer = make_optimizer(options, strategy->attach(*model));
void prepare_groups(const NamedTensors& model, std::span<const ParameterGroup> groups);

}  // namespace trireme
