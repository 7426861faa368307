#include "trireme/server/membership.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "trireme/base/error.h"

namespace trireme::server {

Membership::Worker& Membership::sender_of(const Message& message) {
  if (message.worker >= workers_.size() ||
      workers_[message.worker].presence == Presence::kAwaited) {
    throw UsageError(fmt::format("worker {} must join before any other request", message.worker));
  }
  Worker& worker = workers_[message.worker];
  if (worker.incarnation != message.incarnation) {
    throw UsageError(
        fmt::format("another process has joined as worker {}; each worker needs a rank of its own",
                    message.worker));
  }
  if (worker.presence == Presence::kLost) {
    throw CommError(fmt::format("worker {} was declared lost ({}); it must join again",
                                message.worker, worker.why_lost),
                    static_cast<int>(message.worker));
  }
  return worker;
}

void Membership::note_activity(const Message& message, Time now) {
  if (message.worker >= workers_.size()) return;
  Worker& worker = workers_[message.worker];
  if (worker.incarnation == message.incarnation) worker.heard = now;
}

std::int64_t Membership::slowest_clock(std::optional<std::uint32_t> except) const {
  std::int64_t slowest = std::numeric_limits<std::int64_t>::max();
  for (std::uint32_t i = 0; i < workers_.size(); ++i) {
    if (i != except && workers_[i].may_push()) slowest = std::min(slowest, workers_[i].clock);
  }
  return slowest;
}

int Membership::still_pushing() const {
  return static_cast<int>(std::ranges::count_if(workers_, &Worker::may_push));
}

int Membership::lost() const {
  return static_cast<int>(std::ranges::count(workers_, Presence::kLost, &Worker::presence));
}

bool Membership::is_last(std::uint32_t worker) const {
  for (std::uint32_t other = 0; other < workers_.size(); ++other) {
    if (other != worker && !workers_[other].is_gone()) return false;
  }
  return true;
}

bool Membership::all_gone() const {
  return !workers_.empty() && std::ranges::all_of(workers_, &Worker::is_gone);
}

}  // namespace trireme::server
