#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "tests/comm/ranks.h"
#include "tests/server/zmq_servers.h"
#include "trireme/server/embedded/embedded.h"

namespace trireme::test {

enum class Transport { kThreads, kProcesses, kZmq, kZmqWithKeys };

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
      case Transport::kZmq:
      case Transport::kZmqWithKeys:
        return run_over_zmq(body, std::get<0>(GetParam()) == Transport::kZmqWithKeys);
    }
  }

 private:
  static void run_over_zmq(const WorkerFunction& body, bool keys) {
    ZmqServers servers(shards(), keys);
    run_ranks(workers(), [&](Communicator& world) {
      const auto client = server::connect_servers(servers.options(world.rank()));
      body(*client, world);
    });
  }
};

inline std::string transport_name(
    const testing::TestParamInfo<std::tuple<Transport, int, int>>& info) {
  const auto [transport, workers, shards] = info.param;
  const char* const names[] = {"Threads", "Processes", "Zmq", "ZmqWithKeys"};
  return names[static_cast<int>(transport)] + std::to_string(workers) + "Shards" +
         std::to_string(shards);
}

// libzmq and libsodium are not instrumented, so that ThreadSanitizer takes what they pass between
// threads for races.
#ifdef __SANITIZE_THREAD__
inline constexpr bool kKnowsZmq = false;
#else
inline constexpr bool kKnowsZmq = true;
#endif

inline auto every_transport() {
  std::vector<Transport> transports = {Transport::kThreads, Transport::kProcesses};
  if (kKnowsZmq) {
    transports.push_back(Transport::kZmq);
    transports.push_back(Transport::kZmqWithKeys);
  }
  return testing::Combine(testing::ValuesIn(transports), testing::Values(1, 2, 3, 4),
                          testing::Values(1, 3));
}

}  // namespace trireme::test
