#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <tuple>

#include "trireme/comm/communicator.h"
#include "trireme/parallel/strategy.h"
#include "trireme/parallel/strategy_options.h"

namespace trireme::test {

/// Returns the strategy of this name in the form in which all ranks have the same bits: servers are
/// synchronous and descend by plain SGD; local steps have one group of all ranks, up to 8.
std::unique_ptr<Strategy> strategy_named(const std::string& name, Communicator& world,
                                         StrategyOptions options = {});

/// All of these names, for testing::Combine.
inline const auto kStrategyNames =
    testing::Values("replicated", "sharded1", "sharded2", "sharded3", "host_shared",
                    "parameter_server", "local_steps");

/// The name of a test whose parameters are a strategy's name and a number of ranks.
inline std::string strategy_on_ranks(
    const testing::TestParamInfo<std::tuple<std::string, int>>& info) {
  return std::get<0>(info.param) + "_on_" + std::to_string(std::get<1>(info.param));
}

}  // namespace trireme::test
