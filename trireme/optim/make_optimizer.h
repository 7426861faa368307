#pragma once

#include <memory>
#include <span>

#include "trireme/optim/optimizer.h"
#include "trireme/optim/optimizer_options.h"

namespace trireme {

/// Makes an optimizer by name. Throws UsageError for an unknown name, for an impossible option, and
/// for an option that is set and that the optimizer, or a group of its parameters, does not have.
std::unique_ptr<Optimizer> make_optimizer(const OptimizerOptions& options, std::span<Shard> shards);

}  // namespace trireme
