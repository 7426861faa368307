#include "trireme/launch/supervisor.h"

#include <algorithm>
#include <array>
#include <csignal>
#include <iterator>

#include "trireme/base/error.h"
#include "trireme/launch/exit_codes.h"

namespace trireme {
namespace {

bool has_stopped(ExitStatus status) {
  if (status.signal != 0) return false;
  return std::ranges::any_of(
      std::array{SIGHUP, SIGINT, SIGQUIT, SIGUSR1, SIGTERM},
      [&](int signal) { return status.code == exit_code_of_signal(signal); });
}

}  // namespace

Supervisor::Supervisor(int ranks, Options options)
    : options_(options), ranks_(ranks > 0 ? ranks : 0), running_(ranks) {
  if (ranks < 1) {
    throw UsageError("launch: the number of ranks must be at least 1, got " +
                     std::to_string(ranks));
  }
}

Supervisor::Actions Supervisor::exited(int rank, ExitStatus status, Time now) {
  Rank& gone = ranks_[rank];
  if (gone.status) return {};
  gone.status = status;
  --running_;

  const bool stopped = has_stopped(status);
  if (stopped && stopped_with_ == 0) stopped_with_ = status.code;
  const bool ours = stopped || is_caused_by_us(gone, status);
  const bool victim = status == ExitStatus::exited(static_cast<int>(ExitCode::kPeerLost));
  // The peers of a rank that has ended in good order may go on. A victim counts as such: if it were
  // marked as lost, the errors of its peers would name it and not the cause.
  const bool in_good_order = status.ok() || victim || (ours && status.signal == 0);
  Actions actions;
  if (running_ > 0) {
    actions.push_back(in_good_order ? Action(MarkEnded{rank})
                                    : Action(MarkLost{rank, explain(status)}));
  }
  if (status.ok() || ours) return actions;

  int& first = victim ? victim_ : cause_;
  if (first < 0) first = rank;
  // A victim is tolerable if it needed a rank that was killed before.
  const bool is_tolerable = status.signal != 0 || (victim && !tolerated_failures_.empty());
  if (options_.tolerates_lost_ranks && rank > 0 && is_tolerable && phase_ == Phase::kRunning) {
    tolerated_failures_.push_back(rank);
    return actions;
  }
  if (phase_ == Phase::kRunning && running_ > 0) {
    for (Action& action : enter_grace(now)) actions.push_back(std::move(action));
  }
  return actions;
}

Supervisor::Actions Supervisor::interrupted(int signal, Time now) {
  if (finished()) return {};
  if (interrupted_by_ == 0) {
    interrupted_by_ = signal;
    interrupted_at_ = now;
    // The ranks are ending already: a request to stop would only delay them.
    if (phase_ != Phase::kRunning) return {};
    for (Rank& rank : ranks_) rank.asked_to_stop = rank.asked_to_stop || !rank.status;
    return signal_running(signal);
  }
  if (is_repetition(signal, now)) return {};
  return phase_ == Phase::kTerminating || phase_ == Phase::kKilling ? kill_all() : terminate(now);
}

Supervisor::Actions Supervisor::time_passed(Time now) {
  if (finished() || now < deadline_) return {};
  if (phase_ == Phase::kGrace) return terminate(now);
  if (phase_ == Phase::kTerminating) return kill_all();
  return {};
}

ExitReport Supervisor::exit_report() const {
  ExitReport report;
  report.interrupted_by = interrupted_by_;
  report.world_size = static_cast<int>(ranks_.size());
  bool all_ok = true;
  for (const Rank& rank : ranks_) {
    report.ranks.push_back(rank.status.value_or(ExitStatus{}));
    all_ok = all_ok && report.ranks.back().ok();
  }
  if (all_ok) return report;
  const auto failed =
      std::ranges::count_if(report.ranks, [](const ExitStatus& status) { return !status.ok(); });
  if (failed == std::ssize(tolerated_failures_)) {
    report.tolerated_failures = tolerated_failures_;
    return report;
  }

  // After a request to stop, losing a peer that stopped earlier is part of stopping.
  const int at_fault = cause_ >= 0 || interrupted_by_ != 0 || stopped_with_ != 0 ? cause_ : victim_;
  if (at_fault >= 0) {
    report.failed_rank = at_fault;
    report.status = report.ranks[at_fault];
    report.exit_code = report.status.shell_code();
    report.explanation = explain(report.status);
  } else if (interrupted_by_ == 0) {
    report.exit_code = stopped_with_;
    report.explanation = "stopped";
  } else {
    report.exit_code = exit_code_of_signal(interrupted_by_);
    report.explanation = "interrupted by " + name_of_signal(interrupted_by_);
  }
  return report;
}

Supervisor::Actions Supervisor::enter_grace(Time now) {
  phase_ = Phase::kGrace;
  deadline_ = now + options_.grace;
  return {ArmTimer{deadline_}};
}

Supervisor::Actions Supervisor::terminate(Time now) {
  phase_ = Phase::kTerminating;
  deadline_ = now + options_.kill_after;
  for (Rank& rank : ranks_) rank.ended_by_us = rank.ended_by_us || !rank.status;
  Actions actions = signal_running(SIGTERM);
  actions.push_back(ArmTimer{deadline_});
  return actions;
}

Supervisor::Actions Supervisor::kill_all() {
  phase_ = Phase::kKilling;
  for (Rank& rank : ranks_) rank.ended_by_us = rank.ended_by_us || !rank.status;
  return signal_running(SIGKILL);
}

Supervisor::Actions Supervisor::signal_running(int signal) {
  Actions actions;
  for (int rank = 0; rank < static_cast<int>(ranks_.size()); ++rank) {
    if (!ranks_[rank].status) actions.push_back(SendSignal{rank, signal});
  }
  return actions;
}

bool Supervisor::is_caused_by_us(const Rank& rank, ExitStatus status) const {
  if (rank.ended_by_us) return true;
  return rank.asked_to_stop && status.shell_code() == exit_code_of_signal(interrupted_by_);
}

bool Supervisor::is_repetition(int signal, Time now) const {
  const bool is_typed = signal == SIGINT || signal == SIGQUIT;
  return !is_typed && signal == interrupted_by_ && now - interrupted_at_ < options_.repetition;
}

}  // namespace trireme
