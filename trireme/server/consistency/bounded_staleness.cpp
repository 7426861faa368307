#include "trireme/server/consistency/bounded_staleness.h"

namespace trireme::server {

bool BoundedStaleness::may_read(const Message& request) const {
  const Membership& members = state().members;
  // The clock that the server has counted: what the request says does not matter.
  const std::int64_t clock = members[request.worker].clock;
  return state().store->is_complete() && members.slowest_clock() >= clock - consistency().staleness;
}

}  // namespace trireme::server
