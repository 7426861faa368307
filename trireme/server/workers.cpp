#include "trireme/server/workers.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "trireme/base/error.h"

namespace trireme::server {

Workers::Worker& Workers::of(const Message& message) {
  if (message.worker >= workers_.size() ||
      workers_[message.worker].presence == Presence::kAwaited) {
    throw UsageError(
        fmt::format("worker {} must join before it asks for anything else", message.worker));
  }
  Worker& worker = workers_[message.worker];
  if (worker.life != message.life) {
    throw UsageError(fmt::format(
        "another process has joined as worker {} since; each worker needs a rank of its own",
        message.worker));
  }
  if (worker.presence == Presence::kLost) {
    throw CommError(fmt::format("worker {} was taken for lost ({}); it must join again",
                                message.worker, worker.why_lost),
                    static_cast<int>(message.worker));
  }
  return worker;
}

void Workers::hear(const Message& message, Time now) {
  if (message.worker >= workers_.size()) return;
  Worker& worker = workers_[message.worker];
  if (worker.life == message.life) worker.heard = now;
}

std::int64_t Workers::slowest_clock(std::optional<std::uint32_t> but) const {
  std::int64_t slowest = std::numeric_limits<std::int64_t>::max();
  for (std::uint32_t i = 0; i < workers_.size(); ++i) {
    if (i != but && workers_[i].may_push()) slowest = std::min(slowest, workers_[i].clock);
  }
  return slowest;
}

int Workers::still_pushing() const {
  return static_cast<int>(std::ranges::count_if(workers_, &Worker::may_push));
}

int Workers::lost() const {
  return static_cast<int>(std::ranges::count(workers_, Presence::kLost, &Worker::presence));
}

bool Workers::is_alone(std::uint32_t worker) const {
  for (std::uint32_t other = 0; other < workers_.size(); ++other) {
    if (other != worker && !workers_[other].is_gone()) return false;
  }
  return true;
}

bool Workers::are_gone() const {
  return !workers_.empty() && std::ranges::all_of(workers_, &Worker::is_gone);
}

}  // namespace trireme::server
