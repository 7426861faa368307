#pragma once

#include <chrono>
#include <cstdint>
#include <exception>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <variant>
#include <vector>

#include "trireme/base/clock.h"
#include "trireme/comm/message/agreed_error.h"
#include "trireme/comm/message/peer_states.h"

namespace trireme::message {

/// A call that needs other ranks. `number` is that of a collective, or 0 for a message, whose peer
/// is call.root.
struct PendingCall {
  Call call;
  CallSite site;
  std::uint64_t number = 0;
  std::chrono::milliseconds timeout{0};  ///< of this call; 0: the communicator's
};

/// Decides when a communicator is over and with which error, so that the calls of all surviving
/// ranks end in bounded time and name the rank that failed. A state machine without threads, locks
/// or a clock: events and the time go in, each event returns the actions to execute, in order.
///
/// - The first error is final. An error of a collective ends that collective and all later ones; it
///   is delayed until the earlier ones have finished. An error of a message ends everything.
/// - An error that another rank has sent takes precedence over what this rank has found. It is sent
///   on: a rank that sees this one leave has then already received the reason.
/// - A lost rank ends every collective that still waits for announcements; a rank that has left
///   ends those that it has not announced.
/// - A transfer may fail before its reason is known. The reason has kLossGrace to arrive, or after
///   a timeout kDepartureGrace.
/// - A rank may leave before this rank notices that their last message is complete. Its departure
///   therefore ends messages only after kDepartureGrace.
/// - After a timeout, a silent rank is named in place of one that may be waiting for it.
class FailureAgreement {
 public:
  using Time = Clock::Time;

  static constexpr std::chrono::milliseconds kLossGrace{1000};
  static constexpr std::chrono::milliseconds kDepartureGrace{250};

  /// All calls, pending and later, end in `error`; all transfers are aborted.
  struct End {
    std::exception_ptr error;
  };
  /// Send `error` to all other ranks.
  struct SendError {
    AgreedError error;
  };
  /// Abort all transfers: their peers may be waiting for a rank that is lost.
  struct AbortTransfers {};
  using Action = std::variant<End, SendError, AbortTransfers>;
  using Actions = std::vector<Action>;

  /// `names[r]` is how errors name rank r. `timeout`: for the announcements of a collective.
  FailureAgreement(int rank, std::vector<std::string> names, std::chrono::milliseconds timeout,
                   Time now);

  /// Errors count the collectives that follow from 1.
  void end_of_setup() { peers_.end_of_setup(last_started_); }

  // Events of this rank. A collective is started, executed when it is its turn, then matched, and
  // finished unless the communicator is over.

  void started(std::uint64_t number);
  /// The collective waits for the announcements of all ranks.
  Actions executing(const PendingCall& call, Time now);
  /// Every rank has announced the collective, and the calls agree.
  void matched(std::uint64_t number);
  Actions finished(std::uint64_t number, Time now);
  /// It cannot succeed because of `error`, such as a mismatch. A UsageError is not sent: every rank
  /// finds it by itself.
  Actions failed(std::uint64_t number, const std::exception_ptr& error, Time now);

  /// A transfer of `call` has failed because of `rank`, or -1 if the transport names no rank.
  struct FailedTransfer {
    int rank = -1;
    bool timed_out = false;
    std::exception_ptr error;  ///< of the transport
  };
  Actions transfer_failed(const PendingCall& call, const FailedTransfer& transfer, Time now);

  /// This rank waits for a message that it started to send or receive at `since`. A second wait
  /// with the same `id` (at least 1) replaces the first.
  struct MessageWait {
    std::uint64_t id = 0;
    PendingCall call;
    Time since;
    Time deadline = Time::max();
  };
  Actions waits_for_message(const MessageWait& wait, Time now);
  void message_finished(std::uint64_t id);

  Actions aborted(const std::exception_ptr& error);
  /// The communicator is being destroyed.
  void closed(const std::exception_ptr& error);

  // Events of other ranks.

  /// `header`: of an announcement or message.
  Actions called(int rank, const Frame::Header& header, Time now);
  Actions left(int rank, Time now);
  Actions lost(int rank, const std::string& why, Time now);
  Actions received(const AgreedError& error, Time now);
  void heard(int rank, Time when) { peers_.heard(rank, when); }

  /// Must be called often: deadlines are noticed here and at other events only.
  Actions time_passed(Time now) { return decide(now); }

  /// The error that has ended the communicator, or null.
  const std::exception_ptr& error() const { return error_; }

  /// Throws error(), or CommError if a rank is lost.
  void check() const;

 private:
  /// An error that this rank has found. It ends the communicator as soon as its reason_of() is
  /// known.
  struct Failure {
    PendingCall call;
    int rank = -1;
    bool timed_out = false;
    Time grace_until;  // until then it may become known what has happened to `rank`
    std::uint64_t message = 0;
    std::exception_ptr error = nullptr;  // the reason, if it is not about a rank
  };
  struct Execution {
    PendingCall call;
    Time deadline;
  };

  Actions decide(Time now);
  Actions end(const std::exception_ptr& error, bool is_sent);
  void find_failed_collectives(Time now);
  void find_failed_messages(Time now);
  Failure timeout_of(const PendingCall& call, int rank, Time now) const;
  std::chrono::milliseconds timeout_for(const PendingCall& call) const {
    return call.timeout.count() > 0 ? call.timeout : timeout_;
  }
  std::exception_ptr reason_of(const Failure& failure, Time now) const;
  AgreedError agreed_error_from(const std::exception_ptr& error) const;
  std::uint64_t first_unfinished() const;

  int rank_;
  std::chrono::milliseconds timeout_;
  PeerStates peers_;
  std::uint64_t last_started_ = 0;
  std::set<std::uint64_t> unfinished_;             // collectives
  std::map<std::uint64_t, Execution> executions_;  // of collectives that wait for announcements
  std::map<std::uint64_t, MessageWait> messages_;  // by id
  std::vector<Failure> failures_;
  std::optional<AgreedError> received_;
  std::exception_ptr error_;
};

}  // namespace trireme::message
