#include "trireme/comm/message/failure_agreement.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "trireme/base/error.h"

namespace trireme::message {

namespace {

bool is_usage_error(const std::exception_ptr& error) {
  try {
    std::rethrow_exception(error);
  } catch (const UsageError&) {
    return true;
  } catch (...) {
    return false;
  }
}

}  // namespace

FailureAgreement::FailureAgreement(int rank, std::vector<std::string> names,
                                   std::chrono::milliseconds timeout, Time now)
    : rank_(rank), timeout_(timeout), peers_(rank, std::move(names), now) {}

void FailureAgreement::started(std::uint64_t number) {
  last_started_ = number;
  unfinished_.insert(number);
  peers_.announced(rank_, number);
}

FailureAgreement::Actions FailureAgreement::executing(const PendingCall& call, Time now) {
  executions_[call.number] = {call, now + timeout_for(call)};
  return decide(now);
}

void FailureAgreement::matched(std::uint64_t number) {
  executions_.erase(number);
  // A rank that was late has announced the call after all.
  std::erase_if(failures_, [&](const Failure& failure) { return failure.call.number == number; });
}

FailureAgreement::Actions FailureAgreement::finished(std::uint64_t number, Time now) {
  unfinished_.erase(number);
  return decide(now);
}

FailureAgreement::Actions FailureAgreement::failed(std::uint64_t number,
                                                   const std::exception_ptr& error, Time now) {
  executions_.erase(number);
  Failure failure;
  failure.call.number = number;
  failure.error = error;
  failures_.push_back(failure);
  return decide(now);
}

FailureAgreement::Actions FailureAgreement::transfer_failed(const PendingCall& call,
                                                            const FailedTransfer& transfer,
                                                            Time now) {
  int rank = transfer.rank >= 0 ? transfer.rank : peers_.first_lost();
  if (rank < 0 && call.number > 0) return failed(call.number, transfer.error, now);
  if (rank < 0) rank = call.call.root;
  failures_.push_back(transfer.timed_out
                          ? timeout_of(call, rank, now)
                          : Failure{.call = call, .rank = rank, .grace_until = now + kLossGrace});
  return decide(now);
}

FailureAgreement::Actions FailureAgreement::waits_for_message(const MessageWait& wait, Time now) {
  messages_[wait.id] = wait;
  return decide(now);
}

void FailureAgreement::message_finished(std::uint64_t id) {
  messages_.erase(id);
  std::erase_if(failures_, [&](const Failure& failure) { return failure.message == id; });
}

FailureAgreement::Actions FailureAgreement::aborted(const std::exception_ptr& error) {
  if (error_) return {};
  return end(error, true);
}

void FailureAgreement::closed(const std::exception_ptr& error) {
  if (!error_) error_ = error;
}

FailureAgreement::Actions FailureAgreement::called(int rank, const Frame::Header& header,
                                                   Time now) {
  peers_.called(rank, header);
  return decide(now);
}

FailureAgreement::Actions FailureAgreement::left(int rank, Time now) {
  peers_.left(rank, now);
  return decide(now);
}

FailureAgreement::Actions FailureAgreement::lost(int rank, const std::string& why, Time now) {
  peers_.lost(rank, why);
  Actions actions = decide(now);
  if (actions.empty()) actions.push_back(AbortTransfers{});
  return actions;
}

FailureAgreement::Actions FailureAgreement::received(const AgreedError& error, Time now) {
  if (!received_) received_ = error;
  return decide(now);
}

void FailureAgreement::check() const {
  if (error_) std::rethrow_exception(error_);
  const int rank = peers_.first_lost();
  if (rank >= 0) throw CommError(*peers_.why_gone(rank), rank);
}

FailureAgreement::Actions FailureAgreement::decide(Time now) {
  if (error_) return {};
  const std::uint64_t first = first_unfinished();
  if (received_ && first >= received_->first_operation) {
    error_ = exception_of(*received_);
    return {End{error_}, SendError{*received_}};
  }
  find_failed_collectives(now);
  find_failed_messages(now);
  for (const Failure& failure : failures_) {
    // Earlier collectives may still succeed: all ranks have announced them.
    if (failure.call.number > first) continue;
    const std::exception_ptr error = reason_of(failure, now);
    if (error) return end(error, !is_usage_error(error));
  }
  return {};
}

FailureAgreement::Actions FailureAgreement::end(const std::exception_ptr& error, bool is_sent) {
  error_ = error;
  Actions actions = {End{error}};
  if (is_sent) actions.push_back(SendError{agreed_error_from(error)});
  return actions;
}

void FailureAgreement::find_failed_collectives(Time now) {
  std::erase_if(executions_, [&](const auto& entry) {
    const auto& [number, execution] = entry;
    const int missing = peers_.first_missing(number);
    if (missing < 0) return false;
    // A rank that is gone for good ends the wait, even if another rank is missing as well.
    if (const int gone = peers_.first_gone(number); gone >= 0) {
      failures_.push_back({.call = execution.call, .rank = gone, .grace_until = now});
      return true;
    }
    if (now < execution.deadline) return false;
    failures_.push_back(timeout_of(execution.call, missing, now));
    return true;
  });
}

void FailureAgreement::find_failed_messages(Time now) {
  std::erase_if(messages_, [&](const auto& entry) {
    const MessageWait& wait = entry.second;
    const int rank = wait.call.call.root;
    const auto& left_at = peers_.left_at(rank);
    const bool has_left = left_at && now >= std::max(*left_at, wait.since) + kDepartureGrace;
    const bool is_gone = peers_.is_lost(rank) || has_left;
    if (!is_gone && now < wait.deadline) return false;
    Failure failure = is_gone ? Failure{.call = wait.call, .rank = rank, .grace_until = now}
                              : timeout_of(wait.call, rank, now);
    failure.message = wait.id;
    failures_.push_back(failure);
    return true;
  });
}

FailureAgreement::Failure FailureAgreement::timeout_of(const PendingCall& call, int rank,
                                                       Time now) const {
  return {.call = call,
          .rank = peers_.likely_failed(rank, call.number, now),
          .timed_out = true,
          .grace_until = now + kDepartureGrace};
}

// Returns null while the reason may still arrive.
std::exception_ptr FailureAgreement::reason_of(const Failure& failure, Time now) const {
  if (failure.error) return failure.error;
  const int rank = failure.rank;
  if (const auto why = peers_.why_gone(rank)) {
    const std::string before =
        peers_.is_lost(rank)
            ? ""
            : fmt::format(" before {}", describe(failure.call.call, failure.call.site));
    return std::make_exception_ptr(CommError(*why + before, rank));
  }
  if (now < failure.grace_until) return nullptr;
  const std::string& name = peers_.name(rank);
  if (!failure.timed_out) {
    return std::make_exception_ptr(
        CommError(fmt::format("{} is lost: the connection broke", name), rank));
  }
  const std::uint64_t number = failure.call.number;
  const bool came = number > 0 && peers_.has_announced(rank, number);
  return std::make_exception_ptr(
      CommError(fmt::format("{} {} {} within {:g} s; {}", name,
                            came ? "did not go on with" : "did not come to",
                            describe(failure.call.call, failure.call.site),
                            std::chrono::duration<double>(timeout_for(failure.call)).count(),
                            peers_.describe_last_sign(rank, now)),
                rank));
}

AgreedError FailureAgreement::agreed_error_from(const std::exception_ptr& error) const {
  AgreedError agreed{.text = {}, .first_operation = first_unfinished()};
  try {
    std::rethrow_exception(error);
  } catch (const CommError& known) {
    agreed.failed_rank = known.lost_rank();
    agreed.text = known.what();
  } catch (const std::exception& known) {
    agreed.failed_rank = rank_;
    agreed.text = fmt::format("{} has failed: {}", peers_.name(rank_), known.what());
  }
  return agreed;
}

std::uint64_t FailureAgreement::first_unfinished() const {
  return unfinished_.empty() ? last_started_ + 1 : *unfinished_.begin();
}

}  // namespace trireme::message
