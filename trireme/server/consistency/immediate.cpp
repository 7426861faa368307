#include "trireme/server/consistency/immediate.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <utility>

#include "trireme/base/error.h"

namespace trireme::server {

namespace {

using Presence = Membership::Presence;

}  // namespace

void Immediate::check_push(const Message& push) const {
  if (push.divisor != 0) {
    throw UsageError(
        fmt::format("worker {}: a push is divided by {:g} in synchronous training only; in other "
                    "modes a worker must push its mean gradient",
                    push.worker, push.divisor));
  }
  state().store->check_gradients(push, 1);
}

void Immediate::reserve(const Message& push) {
  const Message* const one = &push;
  state().store->prepare({&one, 1}, nullptr);
}

ConsistencyPolicy::Applied Immediate::apply(Request push) {
  state().store->update();  // of the push that has been reserved last: this one
  ++state().version;
  ++state().members[push.message.worker].clock;
  return {.complete = {}, .waiting = std::move(push)};
}

// A replacement begins at the slowest clock of the others, so that it does not delay them.
std::int64_t Immediate::first_clock(std::uint32_t worker) const {
  const Membership::Worker& before = state().members[worker];
  if (before.presence == Presence::kAwaited) return before.clock;
  const std::int64_t slowest = state().members.slowest_clock(worker);
  const bool none_push = slowest == std::numeric_limits<std::int64_t>::max();
  return none_push ? before.clock : std::max(before.clock, slowest);
}

VersionVector Immediate::progress() const {
  VersionVector progress;
  for (const Membership::Worker& worker : state().members) {
    progress.workers.push_back({public_number(worker.incarnation), worker.sequence});
  }
  return progress;
}

bool Immediate::is_beyond_frontier(const Message& push) const {
  const auto& frontier = state().frontier;
  if (!frontier || push.worker >= frontier->workers.size()) return false;
  const VersionVector::Worker& worker = frontier->workers[push.worker];
  return public_number(push.incarnation) != worker.incarnation || push.sequence > worker.sequence;
}

std::string Immediate::waiting_for() const {
  const std::int64_t slowest = state().members.slowest_clock();
  for (std::uint32_t i = 0; i < state().members.size(); ++i) {
    const Membership::Worker& worker = state().members[i];
    if (worker.clock != slowest || worker.presence == Presence::kLeft) continue;
    return worker.presence == Presence::kAwaited
               ? fmt::format("worker {}, which has not joined", i)
               : fmt::format("worker {}, which has pushed {} steps", i, slowest);
  }
  return "";
}

}  // namespace trireme::server
