#include "trireme/comm/message/failure_agreement.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "tests/comm/message_of.h"
#include "trireme/base/error.h"
#include "trireme/base/random.h"

namespace trireme::test {
namespace {

using namespace std::chrono_literals;
using message::AgreedError;
using message::FailureAgreement;
using message::Frame;
using message::FrameKind;
using message::PendingCall;
using Time = FailureAgreement::Time;
using Actions = FailureAgreement::Actions;

constexpr auto kTimeout = 20s;

std::vector<std::string> names(int ranks) {
  std::vector<std::string> names;
  for (int rank = 0; rank < ranks; ++rank) names.push_back("rank " + std::to_string(rank));
  return names;
}

PendingCall barrier(std::uint64_t number) {
  PendingCall call;
  call.site = CallSite({"a.cpp", static_cast<int>(number)});
  call.number = number;
  return call;
}

PendingCall message_to(int peer) {
  PendingCall call;
  call.call.kind = OpKind::kSend;
  call.call.root = peer;
  call.call.count = 1000;
  call.site = CallSite({"a.cpp", 7});
  return call;
}

Frame::Header announcement(std::uint64_t number) {
  const PendingCall call = barrier(number);
  return {.kind = FrameKind::kAnnouncement, .number = number, .call = call.call, .site = call.site};
}

std::string text_of(const FailureAgreement& failures) {
  if (!failures.error()) return "";
  return message_of<Error>([&] { std::rethrow_exception(failures.error()); });
}

int failed_rank_of(const FailureAgreement& failures) {
  try {
    std::rethrow_exception(failures.error());
  } catch (const CommError& error) {
    return error.lost_rank();
  }
}

template <class Kind>
const Kind* find(const Actions& actions) {
  for (const auto& action : actions) {
    if (const auto* found = std::get_if<Kind>(&action)) return found;
  }
  return nullptr;
}

/// Rank 0 of three.
class Agreement : public testing::Test {
 protected:
  void start(std::uint64_t number) {
    failures.started(number);
    failures.executing(barrier(number), now);
  }
  void announce(int rank, std::uint64_t number) {
    failures.called(rank, announcement(number), now);
  }
  // Time passes while frames arrive from all ranks but `silent`.
  Actions pass(std::chrono::milliseconds time, int silent = -1) {
    now += time;
    for (int rank = 1; rank < 3; ++rank) {
      if (rank != silent) failures.heard(rank, now);
    }
    return failures.time_passed(now);
  }

  Time now{1h};
  FailureAgreement failures{0, names(3), kTimeout, now};
};

TEST_F(Agreement, NamesTheRankThatDidNotComeAndItsLastCall) {
  start(1);
  announce(1, 1);
  announce(2, 1);
  failures.matched(1);
  failures.finished(1, now);
  start(2);
  announce(1, 2);
  pass(kTimeout - 1ms);
  pass(1ms);
  EXPECT_EQ(text_of(failures), "");
  const Actions actions = pass(250ms);
  EXPECT_EQ(text_of(failures),
            "rank 2 did not come to barrier() at a.cpp:2 within 20 s; its last call was "
            "barrier() at a.cpp:1 (operation 1); its process is running");
  ASSERT_NE(find<FailureAgreement::SendError>(actions), nullptr);
  EXPECT_EQ(find<FailureAgreement::SendError>(actions)->error,
            (AgreedError{text_of(failures), 2, 2}));
}

TEST_F(Agreement, IsWithdrawnIfTheLateRankCalls) {
  start(1);
  announce(1, 1);
  pass(kTimeout);
  announce(2, 1);
  failures.matched(1);
  pass(1h);
  EXPECT_EQ(text_of(failures), "");
}

TEST_F(Agreement, CountsOperationsAfterTheSetup) {
  start(1);
  announce(2, 1);
  failures.end_of_setup();
  announce(2, 3);
  pass(kTimeout);
  pass(250ms);
  EXPECT_THAT(text_of(failures), testing::HasSubstr("rank 1 did not come"));
  EXPECT_THAT(text_of(failures), testing::HasSubstr("it has made no call"));

  FailureAgreement other(0, names(2), kTimeout, now);
  other.started(1);
  other.finished(1, now);
  other.end_of_setup();
  other.started(2);
  other.called(1, announcement(1), now);
  other.executing(barrier(2), now);
  other.time_passed(now + kTimeout);
  other.time_passed(now + kTimeout + 250ms);
  EXPECT_THAT(text_of(other), testing::HasSubstr("(operation 0)"));
}

TEST_F(Agreement, WaitsForEarlierCollectives) {
  start(1);
  announce(1, 1);
  announce(2, 1);
  failures.matched(1);
  start(2);
  announce(1, 2);
  EXPECT_TRUE(failures.left(2, now).empty());
  failures.received({"rank 2 has left", 2, 2}, now);
  EXPECT_EQ(text_of(failures), "");
  const Actions actions = failures.finished(1, now);
  EXPECT_NE(find<FailureAgreement::End>(actions), nullptr);
  EXPECT_EQ(text_of(failures), "rank 2 has left");
}

TEST_F(Agreement, SendsOnWhatItHasReceived) {
  start(1);
  const AgreedError error = {"rank 2 is lost: killed by SIGKILL", 2, 1};
  const Actions actions = failures.received(error, now);
  ASSERT_NE(find<FailureAgreement::SendError>(actions), nullptr);
  EXPECT_EQ(find<FailureAgreement::SendError>(actions)->error, error);
  EXPECT_EQ(failed_rank_of(failures), 2);
  EXPECT_TRUE(failures.lost(1, "killed by SIGTERM", now).size() == 1);
  EXPECT_EQ(text_of(failures), error.text);
}

TEST_F(Agreement, OfAMismatchIsNotSent) {
  start(1);
  const auto mismatch = std::make_exception_ptr(UsageError("all_reduce mismatch"));
  const Actions actions = failures.failed(1, mismatch, now);
  EXPECT_NE(find<FailureAgreement::End>(actions), nullptr);
  EXPECT_EQ(find<FailureAgreement::SendError>(actions), nullptr);
}

TEST_F(Agreement, OfAnAbortNamesTheRankThatAborts) {
  const Actions actions = failures.aborted(std::make_exception_ptr(DataError("m.csv is missing")));
  ASSERT_NE(find<FailureAgreement::SendError>(actions), nullptr);
  EXPECT_EQ(find<FailureAgreement::SendError>(actions)->error,
            (AgreedError{"rank 0 has failed: m.csv is missing", 0, 1}));
}

TEST_F(Agreement, ExplainsAFailedTransferByTheLossThatFollows) {
  start(1);
  announce(1, 1);
  announce(2, 1);
  failures.matched(1);
  failures.transfer_failed(barrier(1), {.rank = 2}, now);
  pass(999ms);
  EXPECT_EQ(text_of(failures), "");
  failures.lost(2, "killed by SIGKILL", now);
  EXPECT_EQ(text_of(failures), "rank 2 is lost: killed by SIGKILL");
}

TEST_F(Agreement, NamesTheBrokenConnectionIfNoOtherReasonArrives) {
  start(1);
  failures.transfer_failed(barrier(1), {.rank = 2}, now);
  pass(1s);
  EXPECT_EQ(text_of(failures), "rank 2 is lost: the connection broke");
}

TEST_F(Agreement, OfAnAbortedMessageNamesTheLostRankAndNotItsPeer) {
  EXPECT_NE(find<FailureAgreement::AbortTransfers>(failures.lost(2, "killed by SIGKILL", now)),
            nullptr);
  failures.transfer_failed(message_to(1), {.rank = -1}, now);
  EXPECT_EQ(failed_rank_of(failures), 2);
}

TEST_F(Agreement, NamesASilentRankInPlaceOfOneThatMayWaitForIt) {
  start(1);
  announce(1, 1);
  announce(2, 1);
  failures.matched(1);
  pass(kTimeout, 2);
  failures.transfer_failed(barrier(1), {.rank = 1, .timed_out = true}, now);
  pass(250ms, 2);
  EXPECT_EQ(text_of(failures),
            "rank 2 did not go on with barrier() at a.cpp:1 within 20 s; its last call was "
            "barrier() at a.cpp:1 (operation 1); nothing has been heard of it for 20 s: stopped, "
            "or out of reach");
}

TEST_F(Agreement, NamesTheRankThatDidNotComeBesideASilentOneThatDid) {
  start(1);
  announce(2, 1);
  pass(kTimeout, 2);
  pass(250ms, 2);
  EXPECT_EQ(failed_rank_of(failures), 1);
}

TEST_F(Agreement, GivesAMessageTimeToCompleteAfterItsPeerHasLeft) {
  FailureAgreement::MessageWait wait{.id = 1, .call = message_to(1), .since = now};
  failures.waits_for_message(wait, now);
  failures.left(1, now);
  pass(249ms);
  failures.message_finished(1);
  pass(1h);
  EXPECT_EQ(text_of(failures), "");

  wait = {.id = 2, .call = message_to(1), .since = now};
  failures.waits_for_message(wait, now);
  pass(249ms);
  EXPECT_EQ(text_of(failures), "");
  pass(1ms);
  EXPECT_EQ(text_of(failures), "rank 1 has left before send(f32[1000], to 1, tag 0) at a.cpp:7");
}

TEST_F(Agreement, EndsAMessageAtItsDeadline) {
  failures.waits_for_message({.id = 1, .call = message_to(1), .since = now, .deadline = now + 5s},
                             now);
  pass(5s);
  EXPECT_EQ(text_of(failures), "");
  pass(250ms);
  EXPECT_THAT(text_of(failures),
              testing::StartsWith("rank 1 did not come to send(f32[1000], to 1"));
}

/// What happens to one rank of a Simulation.
enum class Fault { kNone, kKilled, kDoesNotCall, kOutOfReach, kLeaves, kAborts };

/// Ranks that call collectives, and a network that delivers the frames between two ranks in order
/// but those of different ranks in any order. Time is simulated.
class Simulation {
 public:
  static constexpr std::uint64_t kOperations = 8;

  Simulation(int ranks, Fault fault, std::uint64_t seed)
      : fault_(fault), random_(seed), arrivals_(static_cast<std::size_t>(ranks * ranks)) {
    for (int rank = 0; rank < ranks; ++rank) ranks_.emplace_back(rank, ranks, now_);
    faulty_ = below(ranks);
    // The collective that the faulty rank does not call, or is in when it is killed.
    faulty_operation_ = 1 + static_cast<std::uint64_t>(below(kOperations));
    for (int rank = 0; rank < ranks; ++rank) later(rank, [this, rank] { call_next(rank); });
    at(now_ + 50ms, [this] { tick(); });
  }

  /// Until every rank has ended.
  void run() {
    while (!events_.empty() && now_ < Time{1h} + 10 * kTimeout) {
      auto event = events_.extract(events_.begin());
      now_ = event.key();
      event.mapped()();
    }
  }

  struct Rank {
    Rank(int rank, int ranks, Time now) : failures(rank, names(ranks), kTimeout, now) {
      announced.resize(static_cast<std::size_t>(ranks));
    }
    FailureAgreement failures;
    std::vector<std::uint64_t> announced;
    std::uint64_t called = 0;
    std::uint64_t matched = 0;
    std::set<std::uint64_t> executing;
    std::set<std::uint64_t> moving;
    std::uint64_t finished = 0;  // how many
    bool transfers_are_aborted = false;
    bool is_gone = false;  // killed, or has left
    Time ended_at{};
  };
  const std::vector<Rank>& ranks() const { return ranks_; }
  int faulty() const { return faulty_; }
  std::uint64_t faulty_operation() const { return faulty_operation_; }
  Time failed_at() const { return failed_at_; }

 private:
  int below(int limit) {
    return static_cast<int>(random_.bits(draws_++) % static_cast<unsigned>(limit));
  }
  Rank& at_rank(int rank) { return ranks_[static_cast<std::size_t>(rank)]; }
  int size() const { return static_cast<int>(ranks_.size()); }

  void at(Time when, std::function<void()> event) { events_.emplace(when, std::move(event)); }
  void later(int rank, std::function<void()> event) {
    at(now_ + std::chrono::microseconds(1 + below(200'000)), [this, rank, event] {
      if (!at_rank(rank).is_gone) event();
    });
  }

  // Delivers in order to `to`, unless that is gone by then.
  void send(int from, int to, std::function<void()> event) {
    Time& last = arrivals_[static_cast<std::size_t>(from * size() + to)];
    last = std::max(last, now_ + std::chrono::microseconds(1 + below(200'000)));
    at(last, [this, to, event] {
      if (!at_rank(to).is_gone) event();
    });
  }
  void send_to_all(int from, const std::function<void(int to)>& event) {
    for (int to = 0; to < size(); ++to) {
      if (to != from) send(from, to, [event, to] { event(to); });
    }
  }

  void call_next(int rank) {
    Rank& self = at_rank(rank);
    if (self.failures.error() || self.called - self.finished >= 2) return;
    if (self.called == kOperations) {
      if (self.finished == kOperations) leave(rank);
      return;
    }
    const std::uint64_t number = self.called + 1;
    if (rank == faulty_ && number == faulty_operation_ && fault_ != Fault::kKilled &&
        fault_ != Fault::kNone) {
      return fail(rank);
    }
    self.called = number;
    self.announced[static_cast<std::size_t>(rank)] = number;
    self.failures.started(number);
    send_to_all(rank, [this, rank, number](int to) {
      at_rank(to).announced[static_cast<std::size_t>(rank)] = number;
      perform(to, at_rank(to).failures.called(rank, announcement(number), now_));
    });
    self.executing.insert(number);
    perform(rank, self.failures.executing(barrier(number), now_));
    if (rank == faulty_ && number == faulty_operation_ && fault_ == Fault::kKilled) {
      later(rank, [this, rank] { fail(rank); });
    }
    later(rank, [this, rank] { call_next(rank); });
  }

  void fail(int rank) {
    Rank& self = at_rank(rank);
    failed_at_ = now_;
    switch (fault_) {
      case Fault::kKilled:
        self.is_gone = true;
        send_to_all(rank, [this, rank](int to) {
          perform(to, at_rank(to).failures.lost(rank, "killed by SIGKILL", now_));
        });
        // The transport of any other rank may notice it first.
        for (int peer = 0; peer < size(); ++peer) {
          if (peer == rank || below(2) == 0) continue;
          later(peer, [this, peer, rank] { break_transfers(peer, rank); });
        }
        break;
      case Fault::kLeaves:
        // Once it has done what it has called.
        if (self.finished == self.called) return leave(rank);
        later(rank, [this, rank] { fail(rank); });
        break;
      case Fault::kAborts:
        perform(rank, self.failures.aborted(std::make_exception_ptr(DataError("no space"))));
        break;
      case Fault::kDoesNotCall:
      case Fault::kOutOfReach:
      case Fault::kNone:
        break;
    }
  }

  void leave(int rank) {
    at_rank(rank).is_gone = true;
    send_to_all(rank, [this, rank](int to) { perform(to, at_rank(to).failures.left(rank, now_)); });
  }

  // Matches in order; data has moved once all ranks that live have begun to move it.
  void advance(int rank) {
    Rank& self = at_rank(rank);
    const std::uint64_t next = self.matched + 1;
    const bool all_have_come =
        std::ranges::all_of(self.announced, [&](std::uint64_t number) { return number >= next; });
    if (self.failures.error() || !self.executing.contains(next) || !all_have_come) return;
    self.executing.erase(next);
    self.failures.matched(next);
    self.matched = next;
    self.moving.insert(next);
    if (self.transfers_are_aborted) break_transfers(rank, -1);
    try_to_finish(rank, next);
    advance(rank);
  }

  // Every rank polls: a transfer ends after all ranks have started it, unless it is broken before.
  void try_to_finish(int rank, std::uint64_t number) {
    later(rank, [this, rank, number] {
      Rank& self = at_rank(rank);
      if (!self.moving.contains(number) || self.failures.error()) return;
      const bool all_move =
          std::ranges::all_of(ranks_, [&](const Rank& other) { return other.matched >= number; });
      if (!all_move) return try_to_finish(rank, number);
      self.moving.erase(number);
      ++self.finished;
      perform(rank, self.failures.finished(number, now_));
      call_next(rank);
    });
  }

  void break_transfers(int rank, int because_of) {
    Rank& self = at_rank(rank);
    for (const std::uint64_t number : std::exchange(self.moving, {})) {
      perform(rank, self.failures.transfer_failed(
                        barrier(number),
                        {.rank = because_of,
                         .error = std::make_exception_ptr(CommError("the transfer broke"))},
                        now_));
    }
  }

  void perform(int rank, const Actions& actions) {
    Rank& self = at_rank(rank);
    for (const auto& action : actions) {
      if (std::holds_alternative<FailureAgreement::End>(action)) {
        self.ended_at = now_;
        // Its error reaches the caller, who destroys the communicator.
        later(rank, [this, rank] { leave(rank); });
      } else if (const auto* send = std::get_if<FailureAgreement::SendError>(&action)) {
        send_to_all(rank, [this, error = send->error](int to) {
          perform(to, at_rank(to).failures.received(error, now_));
        });
      } else {
        self.transfers_are_aborted = true;
        break_transfers(rank, -1);
      }
    }
    advance(rank);
  }

  void tick() {
    bool all_have_ended = true;
    for (int rank = 0; rank < size(); ++rank) {
      Rank& self = at_rank(rank);
      if (self.is_gone || self.failures.error()) continue;
      all_have_ended = all_have_ended && rank == faulty_ && fault_ != Fault::kNone;
      for (int peer = 0; peer < size(); ++peer) {
        const bool is_heard =
            fault_ != Fault::kOutOfReach || peer != faulty_ || failed_at_ == Time{};
        if (is_heard) self.failures.heard(peer, now_);
      }
      if (rank == faulty_ && fault_ == Fault::kOutOfReach && failed_at_ != Time{}) continue;
      perform(rank, self.failures.time_passed(now_));
    }
    if (!all_have_ended) at(now_ + 50ms, [this] { tick(); });
  }

  Fault fault_;
  CounterRandom random_;
  std::uint64_t draws_ = 0;
  Time now_{1h};
  std::multimap<Time, std::function<void()>> events_;
  std::vector<Time> arrivals_;
  std::vector<Rank> ranks_;
  int faulty_ = 0;
  std::uint64_t faulty_operation_ = 0;
  Time failed_at_{};
};

class FailureSimulation : public testing::TestWithParam<int> {  // ranks
 protected:
  static constexpr int kRounds = 1000;

  static void expect_agreement(Fault fault, Time::duration limit, const std::string& text,
                               bool is_same_text = true) {
    for (int seed = 0; seed < kRounds; ++seed) {
      Simulation simulation(GetParam(), fault, static_cast<std::uint64_t>(seed));
      simulation.run();
      std::set<std::string> texts;
      for (int rank = 0; rank < GetParam(); ++rank) {
        const auto& end = simulation.ranks()[static_cast<std::size_t>(rank)];
        if (rank == simulation.faulty() || end.finished == Simulation::kOperations) continue;
        ASSERT_TRUE(end.failures.error()) << "rank " << rank << " hangs, seed " << seed;
        ASSERT_EQ(failed_rank_of(end.failures), simulation.faulty())
            << text_of(end.failures) << ", seed " << seed;
        ASSERT_THAT(text_of(end.failures), testing::HasSubstr(text)) << "seed " << seed;
        ASSERT_LT(end.ended_at - simulation.failed_at(), limit) << "seed " << seed;
        if (fault != Fault::kKilled && fault != Fault::kAborts) {
          ASSERT_EQ(end.finished + 1, simulation.faulty_operation()) << "seed " << seed;
        }
        texts.insert(text_of(end.failures));
      }
      ASSERT_LE(texts.size(), is_same_text ? 1U : texts.size()) << "seed " << seed;
    }
  }
};

TEST_P(FailureSimulation, WithoutAFaultHasNoErrors) {
  for (int seed = 0; seed < kRounds; ++seed) {
    Simulation simulation(GetParam(), Fault::kNone, static_cast<std::uint64_t>(seed));
    simulation.run();
    for (const auto& rank : simulation.ranks()) {
      ASSERT_EQ(text_of(rank.failures), "") << "seed " << seed;
      ASSERT_EQ(rank.finished, Simulation::kOperations) << "seed " << seed;
    }
  }
}

TEST_P(FailureSimulation, OfAKilledRankEndsTheOthersInOneError) {
  expect_agreement(Fault::kKilled, 10s, "is lost: killed by SIGKILL");
}

TEST_P(FailureSimulation, OfARankThatLeavesEndsTheOthersInOneError) {
  expect_agreement(Fault::kLeaves, 10s, "has left");
}

TEST_P(FailureSimulation, OfARankThatAbortsEndsTheOthersInOneError) {
  expect_agreement(Fault::kAborts, 10s, "has failed: no space");
}

TEST_P(FailureSimulation, OfARankThatDoesNotCallEndsTheOthersInOneError) {
  expect_agreement(Fault::kDoesNotCall, kTimeout + 10s, "did not come to barrier()");
}

// Each of the others counts the seconds of silence itself.
TEST_P(FailureSimulation, OfARankOutOfReachNamesItOnAllOthers) {
  expect_agreement(Fault::kOutOfReach, kTimeout + 10s, "nothing has been heard of it for", false);
}

INSTANTIATE_TEST_SUITE_P(Ranks, FailureSimulation, testing::Values(2, 3, 5),
                         [](const auto& info) { return "Ranks" + std::to_string(info.param); });

}  // namespace
}  // namespace trireme::test
