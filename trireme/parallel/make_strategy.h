#pragma once

#include <memory>
#include <string_view>

#include "trireme/comm/communicator.h"
#include "trireme/parallel/strategy.h"
#include "trireme/parallel/strategy_options.h"

namespace trireme {

/// Returns the strategy of this name: "replicated" or "host_shared". Throws UsageError for others.
std::unique_ptr<Strategy> make_strategy(std::string_view name, Communicator& world,
                                        StrategyOptions options = {});

}  // namespace trireme
