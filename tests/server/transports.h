#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <tuple>
#include <vector>

#include "tests/comm/ranks.h"
#include "trireme/server/embedded/embedded.h"

namespace trireme::test {

enum class Transport { kThreads, kProcesses };

using WorkerFunction = std::function<void(server::Client& client, Communicator& world)>;

/// The suites that every transport between workers and servers must pass: (transport, workers,
/// server shards). `world` joins the workers among themselves, for what tests have to agree on.
class OnEveryTransport : public testing::TestWithParam<std::tuple<Transport, int, int>> {
 protected:
  static int workers() { return std::get<1>(GetParam()); }
  static int shards() { return std::get<2>(GetParam()); }

  static void run(const WorkerFunction& body) {
    const auto rank = [&](Communicator& world) {
      const auto client = server::embedded(world, {.shards = shards()});
      body(*client, world);
    };
    switch (std::get<0>(GetParam())) {
      case Transport::kThreads:
        return run_ranks(workers(), rank);
      case Transport::kProcesses:
        return expect_all_well(run_rank_processes(workers(), rank));
    }
  }
};

inline std::string transport_name(
    const testing::TestParamInfo<std::tuple<Transport, int, int>>& info) {
  const auto [transport, workers, shards] = info.param;
  const char* const names[] = {"Threads", "Processes"};
  return names[static_cast<int>(transport)] + std::to_string(workers) + "Shards" +
         std::to_string(shards);
}

inline auto every_transport() {
  return testing::Combine(testing::Values(Transport::kThreads, Transport::kProcesses),
                          testing::Values(1, 2, 3, 4), testing::Values(1, 3));
}

}  // namespace trireme::test
