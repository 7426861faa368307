#include "tests/parallel/named_strategies.h"

#include "trireme/base/error.h"
#include "trireme/parallel/host_shared.h"
#include "trireme/parallel/local_steps.h"
#include "trireme/parallel/parameter_server.h"
#include "trireme/parallel/replicated.h"
#include "trireme/parallel/sharded.h"
#include "trireme/server/embedded/embedded.h"

namespace trireme::test {

namespace {

std::unique_ptr<Strategy> in_one_group(Communicator& world, StrategyOptions options) {
  return local_steps(world, {.world = std::move(options), .group_size = 8, .steps = 1});
}

std::unique_ptr<Strategy> on_synchronous_servers(Communicator& world, StrategyOptions options) {
  return parameter_server(
      world, [](Communicator& workers) { return server::embedded(workers, {.shards = 2}); },
      {.world = std::move(options),
       .consistency = {.mode = server::Consistency::Mode::kSynchronous}});
}

template <int stage>
std::unique_ptr<Strategy> in_stage(Communicator& world, StrategyOptions options) {
  return sharded(world, {.stage = stage}, std::move(options));
}

struct Named {
  const char* name;
  std::unique_ptr<Strategy> (*make)(Communicator& world, StrategyOptions options);
};

constexpr Named kStrategies[] = {{"replicated", replicated},
                                 {"host_shared", host_shared},
                                 {"sharded1", in_stage<1>},
                                 {"sharded2", in_stage<2>},
                                 {"sharded3", in_stage<3>},
                                 {"local_steps", in_one_group},
                                 {"parameter_server", on_synchronous_servers}};

}  // namespace

std::unique_ptr<Strategy> strategy_named(const std::string& name, Communicator& world,
                                         StrategyOptions options) {
  for (const Named& one : kStrategies) {
    if (one.name == name) return one.make(world, std::move(options));
  }
  throw UsageError("no test has a strategy called " + name);
}

}  // namespace trireme::test
