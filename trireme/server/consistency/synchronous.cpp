#include "trireme/server/consistency/synchronous.h"

#include <fmt/format.h>

#include <utility>

#include "trireme/base/error.h"

namespace trireme::server {

namespace {

using Presence = Membership::Presence;

// Of pushes that are means over their workers' samples: each is one contribution.
ReductionTree tree_over(int workers) {
  return ReductionTree(workers, workers);
}

ReductionTree tree_of(const Consistency& consistency) {
  if (consistency.virtual_workers.empty()) return tree_over(consistency.workers);
  std::vector<Range> parts;
  std::int64_t begin = 0;
  for (const int count : consistency.virtual_workers) {
    parts.push_back({begin, begin + count});
    begin = parts.back().end;
  }
  return ReductionTree(parts);
}

}  // namespace

Synchronous::Synchronous(ServerState& state)
    : ConsistencyPolicy(state), tree_(tree_of(state.store->schema().consistency)) {}

void Synchronous::check_push(const Message& push) const {
  const std::size_t rows =
      has_backup_workers() ? 1 : tree_.nodes_of(static_cast<int>(push.worker)).size();
  state().store->check_gradients(push, static_cast<std::int64_t>(rows));
  check_divisor(push);
}

void Synchronous::check_divisor(const Message& push) const {
  if (has_backup_workers() && push.divisor != 0) {
    throw UsageError(fmt::format(
        "worker {}: with backup workers the mean over the pushes of a step is taken and a push has "
        "no divisor, got {:g}",
        push.worker, push.divisor));
  }
  for (const auto& [worker, pending] : state().pending_pushes) {
    if (worker == push.worker || pending.message.divisor == push.divisor) continue;
    throw UsageError(fmt::format(
        "worker {}: pushes step {} with the divisor {:g}, and worker {} with {:g}; all workers "
        "must "
        "push a step with the same divisor, the weight of the whole step (0: the number of virtual "
        "workers)",
        push.worker, state().version + 1, push.divisor, worker, pending.message.divisor));
  }
}

ConsistencyPolicy::Applied Synchronous::apply(Request push) {
  Applied applied;
  if (push.message.clock < state().version) {  // its step is over: it came too late to count
    applied.complete.push_back(std::move(push));
    return applied;
  }
  const std::uint32_t worker = push.message.worker;
  state().pending_pushes.insert_or_assign(worker, std::move(push));
  applied.complete = advance();
  return applied;
}

std::vector<Request> Synchronous::advance() {
  if (static_cast<int>(state().pending_pushes.size()) < needed_pushes()) {
    // If too many workers have finished, the step can no longer be completed.
    const bool can_complete = state().members.still_pushing() >= needed_pushes();
    return can_complete ? std::vector<Request>() : take_pending();
  }
  if (state().frontier && state().version >= state().frontier->version) return {};
  update();
  return take_pending();
}

void Synchronous::update() {
  std::vector<const Message*> pushes;
  for (const auto& [worker, request] : state().pending_pushes) pushes.push_back(&request.message);
  if (has_backup_workers()) {
    const ReductionTree tree = tree_over(static_cast<int>(pushes.size()));
    state().store->prepare(pushes, &tree);
    state().store->update();
  } else {
    state().store->prepare(pushes, &tree_);
    state().store->update();
  }
  ++state().version;
  for (Membership::Worker& worker : state().members) worker.clock = state().version;
}

std::vector<Request> Synchronous::take_pending() {
  std::vector<Request> pushes;
  for (auto& [worker, request] : std::exchange(state().pending_pushes, {})) {
    pushes.push_back(std::move(request));
  }
  return pushes;
}

bool Synchronous::may_read(const Message& request) const {
  return state().store->is_complete() && state().version >= request.clock;
}

std::string Synchronous::failure_after(std::uint32_t worker) const {
  const Membership::Worker& gone = state().members[worker];
  if (gone.presence == Presence::kLeft) {
    if (has_backup_workers()) return "";
    return fmt::format(
        "worker {} has left after step {}; in synchronous training all workers must take the same "
        "steps",
        worker, state().version);
  }
  if (state().members.lost() <= consistency().backup_workers) return "";
  return fmt::format("worker {} is lost: {}; synchronous training cannot continue without it",
                     worker, gone.why_lost);
}

std::string Synchronous::waiting_for() const {
  for (std::uint32_t i = 0; i < state().members.size(); ++i) {
    const Presence presence = state().members[i].presence;
    if (state().pending_pushes.contains(i) || presence == Presence::kLeft) continue;
    return presence == Presence::kAwaited
               ? fmt::format("worker {}, which has not joined", i)
               : fmt::format("worker {}, which has not pushed step {}", i, state().version + 1);
  }
  return "";
}

}  // namespace trireme::server
