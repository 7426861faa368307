#include "trireme/parallel/make_strategy.h"

#include <fmt/format.h>

#include "trireme/base/error.h"
#include "trireme/parallel/host_shared.h"
#include "trireme/parallel/replicated.h"

namespace trireme {

std::unique_ptr<Strategy> make_strategy(std::string_view name, Communicator& world,
                                        StrategyOptions options) {
  if (name == "replicated") return replicated(world, std::move(options));
  if (name == "host_shared") return host_shared(world, std::move(options));
  if (name == "shared") {
    throw UsageError("strategy \"shared\" is now called \"host_shared\"");
  }
  if (name == "through_server") {
    throw UsageError(
        "strategy \"through_server\" is now called \"parameter_server\"; it needs servers: make it "
        "by parameter_server()");
  }
  throw UsageError(
      fmt::format("strategy must be \"replicated\" or \"host_shared\", got \"{}\"", name));
}

}  // namespace trireme
