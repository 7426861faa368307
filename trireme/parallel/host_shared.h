#pragma once

#include <memory>

#include "trireme/comm/communicator.h"
#include "trireme/parallel/strategy.h"
#include "trireme/parallel/strategy_options.h"

namespace trireme {

/// One copy of the parameters for all ranks of this host. Each rank sums its slice of the
/// gradients, updates its slice of the parameters and holds its slice of the optimizer state; the
/// sum is taken inside the optimizer's pass and nothing is gathered. Needs trireme's optimizers.
///
/// attach() throws UsageError if the ranks do not share memory. Gradients are not sent, so that
/// there is nothing to compress: throws UsageError for any codec but "none".
std::unique_ptr<Strategy> host_shared(Communicator& world, StrategyOptions options = {});

}  // namespace trireme
