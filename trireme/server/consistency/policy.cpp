#include "trireme/server/consistency/policy.h"

#include "trireme/server/consistency/asynchronous.h"
#include "trireme/server/consistency/bounded_staleness.h"
#include "trireme/server/consistency/synchronous.h"

namespace trireme::server {

std::unique_ptr<ConsistencyPolicy> make_policy(ServerState& state) {
  switch (state.store->schema().consistency.mode) {
    case Consistency::Mode::kSynchronous:
      return std::make_unique<Synchronous>(state);
    case Consistency::Mode::kBounded:
      return std::make_unique<BoundedStaleness>(state);
    case Consistency::Mode::kAsynchronous:
      return std::make_unique<Asynchronous>(state);
  }
  return nullptr;
}

}  // namespace trireme::server
