#pragma once

#include <span>

#include "trireme/optim/parameter_groups.h"
#include "trireme/tensor/named_tensors.h"

namespace trireme {

/// Freezes the parameters of the groups that are not trainable: they require no gradient from now
/// on. Must be called before Strategy::attach(), which then neither hooks nor sends their
/// gradients.
///
///     freeze(tensors_of(*model), options.groups);
///     auto optimizer = make_optimizer(options, strategy->attach(*model));
///
/// Throws UsageError, before any parameter is frozen, for a group that matches no parameter: see
/// check_groups().
void freeze(const NamedTensors& model, std::span<const ParameterGroup> groups);

}  // namespace trireme
