#pragma once

#include <memory>

#include "trireme/comm/communicator.h"
#include "trireme/parallel/strategy.h"
#include "trireme/parallel/strategy_options.h"

namespace trireme {

/// Every rank holds all parameters and all optimizer state; gradients are all-reduced while
/// backward runs (data parallelism: Li et al. 2020, "PyTorch Distributed"). After
/// reduce_gradients() each parameter's grad() is the gradient, so that update() takes any
/// optimizer, torch::optim's included.
std::unique_ptr<Strategy> replicated(Communicator& world, StrategyOptions options = {});

}  // namespace trireme
