#include "trireme/server/snapshot.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "trireme/base/error.h"

namespace trireme::server {

namespace {

constexpr std::chrono::seconds kSilence{5};  // of the program, after which it counts as dead
constexpr std::chrono::minutes kLongestPause{10};
// Snapshots that follow each other at once may take so long together.
constexpr std::chrono::seconds kBurst{30};

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

void Snapshot::check_ration(Time now) const {
  if (is_active() || now + kBurst >= next_) return;
  throw CommError(fmt::format(
      "fetch: snapshots have delayed training for too long; try again in {:.0f} s, or read what "
      "each server has now, without a snapshot",
      std::chrono::duration<double>(next_ - kBurst - now).count()));
}

void Snapshot::pause(std::uint64_t incarnation, VersionVector progress, Time now) {
  if (!is_active()) began_ = now;
  incarnation_ = incarnation;
  state_.frontier = std::move(progress);
  extend(now);
}

void Snapshot::advance(Request waiter) {
  state_.frontier = waiter.message.progress;
  waiter_ = std::move(waiter);
}

Snapshot::Rest Snapshot::resume(Time now) {
  // A second of delay is followed by one without: two for each.
  // A replica that has just taken over does not know when it began.
  const bool is_known = is_active() && began_ != Time{};
  if (is_known) next_ = std::max(next_, began_) + 2 * (now - began_);
  state_.frontier.reset();
  return {.waiter = std::exchange(waiter_, std::nullopt), .pushes = take_pushes()};
}

void Snapshot::extend(Time now) {
  until_ = std::min<Time>(now + kSilence, began_ + kLongestPause);
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
