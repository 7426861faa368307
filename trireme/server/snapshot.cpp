#include "trireme/server/snapshot.h"

#include <fmt/format.h>

#include <chrono>
#include <utility>

#include "trireme/base/error.h"

namespace trireme::server {

namespace {

constexpr std::chrono::seconds kLongestPause{5};

}  // namespace

void Snapshot::check_owner(const Message& message) const {
  if (!is_active() || incarnation_ == message.incarnation) return;
  throw CommError("fetch: another program takes a snapshot of these servers; try again");
}

void Snapshot::check_active() const {
  if (is_active()) return;
  throw CommError("fetch: the snapshot took too long, and the servers have resumed; try again");
}

void Snapshot::check_frontier(const Message& message, const VersionVector& progress) const {
  const std::size_t workers = message.progress ? message.progress->workers.size() : 0;
  if (message.progress && workers == progress.workers.size()) return;
  throw UsageError(fmt::format("fetch: a version vector of {} workers is wanted, got {}",
                               progress.workers.size(), workers));
}

void Snapshot::pause(std::uint64_t incarnation, VersionVector progress, Time now) {
  incarnation_ = incarnation;
  state_.frontier = std::move(progress);
  until_ = now + kLongestPause;
}

void Snapshot::advance(Request waiter) {
  state_.frontier = waiter.message.progress;
  waiter_ = std::move(waiter);
}

Snapshot::Rest Snapshot::resume() {
  state_.frontier.reset();
  return {.waiter = std::exchange(waiter_, std::nullopt), .pushes = take_pushes()};
}

void Snapshot::extend(Time now) {
  until_ = now + kLongestPause;
}

void Snapshot::hold(Request push) {
  remove(push.message.worker);
  pushes_.push_back(std::move(push));
}

void Snapshot::remove(std::uint32_t worker) {
  std::erase_if(pushes_, [&](const Request& r) { return r.message.worker == worker; });
}

std::vector<Request> Snapshot::take_pushes() {
  return std::exchange(pushes_, {});
}

std::optional<Request> Snapshot::take_waiter(const ConsistencyPolicy& policy) {
  if (!waiter_ || !has_reached(policy.progress(), *state_.frontier)) return std::nullopt;
  return std::exchange(waiter_, std::nullopt);
}

}  // namespace trireme::server
