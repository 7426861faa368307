#include "tests/parallel/named_strategies.h"

#include "trireme/parallel/local_steps.h"
#include "trireme/parallel/make_strategy.h"
#include "trireme/parallel/parameter_server.h"
#include "trireme/server/embedded/embedded.h"

namespace trireme::test {

std::unique_ptr<Strategy> strategy_named(const std::string& name, Communicator& world,
                                         StrategyOptions options) {
  if (name == "local_steps") {
    return local_steps(world, {.world = options, .group_size = 8, .steps = 1});
  }
  if (name != "parameter_server") return make_strategy(name, world, options);
  return parameter_server(
      world, [](Communicator& workers) { return server::embedded(workers, {.shards = 2}); },
      {.world = options, .consistency = {.mode = server::Consistency::Mode::kSynchronous}});
}

}  // namespace trireme::test
