#pragma once

#include <memory>
#include <string>

#include "trireme/comm/communicator.h"
#include "trireme/parallel/strategy.h"
#include "trireme/parallel/strategy_options.h"

namespace trireme::test {

/// Returns the strategy of this name in the form in which all ranks have the same bits: servers are
/// synchronous and descend by plain SGD; local steps have one group of all ranks, up to 8.
std::unique_ptr<Strategy> strategy_named(const std::string& name, Communicator& world,
                                         StrategyOptions options = {});

}  // namespace trireme::test
