#include "trireme/launch/supervisor.h"

#include <gmock/gmock.h>

#include <csignal>
#include <random>

#include "trireme/base/error.h"
#include "trireme/launch/exit_codes.h"

namespace trireme {
namespace {

using std::chrono::milliseconds;
using testing::Contains;
using testing::ElementsAre;
using testing::IsEmpty;
using Action = Supervisor::Action;
using ArmTimer = Supervisor::ArmTimer;
using MarkEnded = Supervisor::MarkEnded;
using MarkLost = Supervisor::MarkLost;
using SendSignal = Supervisor::SendSignal;

const ExitStatus kOk = ExitStatus::exited(0);
const ExitStatus kVictim = ExitStatus::exited(static_cast<int>(ExitCode::kPeerLost));
constexpr Supervisor::Time kStart = std::chrono::seconds(100);

testing::Matcher<Action> an_armed_timer() {
  return testing::VariantWith<ArmTimer>(testing::_);
}

TEST(Supervisor, AllRanksExitingZeroIsSuccess) {
  Supervisor supervisor(3);
  for (const int rank : {2, 0, 1}) {
    EXPECT_FALSE(supervisor.finished());
    supervisor.exited(rank, kOk, kStart);
  }
  ASSERT_TRUE(supervisor.finished());
  EXPECT_EQ(supervisor.exit_report().exit_code, 0);
  EXPECT_EQ(supervisor.exit_report().failed_rank, -1);
}

TEST(Supervisor, NamesTheRankThatFailedFirst) {
  Supervisor supervisor(3);
  EXPECT_THAT(supervisor.exited(2, ExitStatus::killed(SIGSEGV), kStart),
              ElementsAre(Action(MarkLost{2, "killed by SIGSEGV: invalid memory access"}),
                          Action(ArmTimer{kStart + milliseconds(500)})));
  supervisor.exited(0, ExitStatus::exited(3), kStart);
  supervisor.exited(1, kVictim, kStart);
  const ExitReport report = supervisor.exit_report();
  EXPECT_EQ(report.failed_rank, 2);
  EXPECT_EQ(report.exit_code, 128 + SIGSEGV);
  EXPECT_EQ(report.explanation, "killed by SIGSEGV: invalid memory access");
}

TEST(Supervisor, BlamesTheCauseEvenIfItsVictimIsSeenFirst) {
  Supervisor supervisor(2);
  supervisor.exited(0, kVictim, kStart);
  supervisor.exited(1, ExitStatus::exited(3), kStart);
  EXPECT_EQ(supervisor.exit_report().failed_rank, 1);
  EXPECT_EQ(supervisor.exit_report().exit_code, 3);
}

TEST(Supervisor, NamesTheFirstVictimIfNoOtherRankHasFailed) {
  Supervisor supervisor(3);
  supervisor.exited(1, kVictim, kStart);
  supervisor.exited(0, kVictim, kStart);
  supervisor.time_passed(kStart + milliseconds(500));
  supervisor.exited(2, ExitStatus::killed(SIGTERM), kStart + milliseconds(501));
  EXPECT_EQ(supervisor.exit_report().failed_rank, 1);
  EXPECT_EQ(supervisor.exit_report().exit_code, 4);
}

TEST(Supervisor, AfterAFailureTheOthersGetTimeThenSigtermThenSigkill) {
  Supervisor supervisor(2);
  supervisor.exited(0, ExitStatus::exited(1), kStart);
  EXPECT_THAT(supervisor.time_passed(kStart + milliseconds(499)), IsEmpty());
  EXPECT_THAT(
      supervisor.time_passed(kStart + milliseconds(500)),
      ElementsAre(Action(SendSignal{1, SIGTERM}), Action(ArmTimer{kStart + milliseconds(1000)})));
  EXPECT_THAT(supervisor.time_passed(kStart + milliseconds(1000)),
              ElementsAre(Action(SendSignal{1, SIGKILL})));
  EXPECT_FALSE(supervisor.finished());
  supervisor.exited(1, ExitStatus::killed(SIGKILL), kStart + milliseconds(1001));
  EXPECT_EQ(supervisor.exit_report().failed_rank, 0);
}

TEST(Supervisor, PassesTheFirstRequestToStopOnAsItCame) {
  Supervisor supervisor(2);
  EXPECT_THAT(supervisor.interrupted(SIGUSR1, kStart),
              ElementsAre(Action(SendSignal{0, SIGUSR1}), Action(SendSignal{1, SIGUSR1})));
  EXPECT_THAT(supervisor.time_passed(kStart + std::chrono::hours(1)), IsEmpty());
  supervisor.exited(0, kOk, kStart);
  supervisor.exited(1, kOk, kStart);
  EXPECT_EQ(supervisor.exit_report().exit_code, 0);
  EXPECT_EQ(supervisor.exit_report().interrupted_by, SIGUSR1);
}

TEST(Supervisor, RanksThatStopAfterAStopRequestAreNotAtFault) {
  for (const ExitStatus status : {ExitStatus::killed(SIGINT), ExitStatus::exited(130)}) {
    Supervisor supervisor(3);
    supervisor.interrupted(SIGINT, kStart);
    EXPECT_THAT(supervisor.exited(0, status, kStart), testing::Not(Contains(an_armed_timer())));
    supervisor.exited(1, kVictim, kStart);
    supervisor.exited(2, status, kStart);
    EXPECT_EQ(supervisor.exit_report().failed_rank, -1);
    EXPECT_EQ(supervisor.exit_report().exit_code, 130);
    EXPECT_EQ(supervisor.exit_report().explanation, "interrupted by SIGINT");
  }
}

TEST(Supervisor, AFailureWhileStoppingIsStillAFault) {
  Supervisor supervisor(2);
  supervisor.interrupted(SIGINT, kStart);
  supervisor.exited(1, ExitStatus::exited(3), kStart);
  supervisor.exited(0, kVictim, kStart);
  EXPECT_EQ(supervisor.exit_report().failed_rank, 1);
  EXPECT_EQ(supervisor.exit_report().exit_code, 3);
}

TEST(Supervisor, ASecondRequestTerminatesAndAThirdKills) {
  Supervisor supervisor(1);
  supervisor.interrupted(SIGINT, kStart);
  EXPECT_THAT(
      supervisor.interrupted(SIGINT, kStart),
      ElementsAre(Action(SendSignal{0, SIGTERM}), Action(ArmTimer{kStart + milliseconds(500)})));
  EXPECT_THAT(supervisor.interrupted(SIGINT, kStart), ElementsAre(Action(SendSignal{0, SIGKILL})));
  supervisor.exited(0, ExitStatus::killed(SIGKILL), kStart);
  EXPECT_EQ(supervisor.exit_report().failed_rank, -1);
  EXPECT_EQ(supervisor.exit_report().exit_code, 130);
}

// A closed terminal, or timeout(1).
TEST(Supervisor, ARequestThatIsSentTwiceAtOnceCountsOnce) {
  for (const int signal : {SIGHUP, SIGTERM}) {
    Supervisor supervisor(1);
    supervisor.interrupted(signal, kStart);
    EXPECT_THAT(supervisor.interrupted(signal, kStart + milliseconds(199)), IsEmpty());
    EXPECT_THAT(supervisor.interrupted(signal, kStart + milliseconds(200)),
                Contains(Action(SendSignal{0, SIGTERM})));
  }
}

TEST(Supervisor, ARankThatStopsBecauseOfAnotherHostHasNotFailed) {
  for (const int code : {130, 143}) {
    Supervisor supervisor(3);
    EXPECT_THAT(supervisor.exited(1, ExitStatus::exited(code), kStart),
                ElementsAre(Action(MarkEnded{1})));
    supervisor.exited(0, kOk, kStart);
    supervisor.exited(2, kVictim, kStart);
    EXPECT_EQ(supervisor.exit_report().failed_rank, -1);
    EXPECT_EQ(supervisor.exit_report().exit_code, code);
  }
}

TEST(Supervisor, ARankThatIsDoneEarlyDoesNotEndTheOthers) {
  Supervisor supervisor(2);
  EXPECT_THAT(supervisor.exited(0, kOk, kStart), ElementsAre(Action(MarkEnded{0})));
}

TEST(Supervisor, DeclaresTheCauseLostAndNotItsVictims) {
  Supervisor supervisor(3);
  supervisor.exited(2, ExitStatus::killed(SIGKILL), kStart);
  EXPECT_THAT(supervisor.exited(0, kVictim, kStart), ElementsAre(Action(MarkEnded{0})));
}

TEST(Supervisor, RefusesFewerThanOneRank) {
  EXPECT_THROW(Supervisor(0), UsageError);
  EXPECT_THROW(Supervisor(-3), UsageError);
}

// Plays one random run: ranks that crash, exit, ignore signals or hang, requests to stop at any
// moment, and time that passes. What must hold in every one of them is checked at its end.
class RandomRun {
 public:
  explicit RandomRun(unsigned seed)
      : random_(seed), ranks_(1 + pick(6)), supervisor_(ranks_), status_(ranks_) {}

  void play() {
    constexpr int kMaxEvents = 200;
    for (int i = 0; i < kMaxEvents && !supervisor_.finished(); ++i) one_event();
    // From this point on there are no random events: only timers, and the effects of signals.
    if (!supervisor_.finished() && fault_seen_) {
      for (int i = 0; i < 3 && !supervisor_.finished(); ++i) ring();
    } else {
      for (int i = 0; i < 3 && !supervisor_.finished(); ++i) interrupt();
    }
  }

  void check() const {
    ASSERT_TRUE(supervisor_.finished());
    const ExitReport report = supervisor_.exit_report();
    for (int rank = 0; rank < ranks_; ++rank) EXPECT_EQ(report.ranks[rank], status_[rank]);

    bool all_ok = true;
    for (const auto& status : status_) all_ok = all_ok && status->ok();
    EXPECT_EQ(report.exit_code == 0, all_ok);
    EXPECT_EQ(report.failed_rank, expected_fault(all_ok));
    if (!all_ok && report.failed_rank < 0) {
      EXPECT_EQ(report.exit_code, first_request_ == 0 ? 130 : 128 + first_request_);
    }
  }

 private:
  int pick(int n) { return static_cast<int>(random_() % static_cast<unsigned>(n)); }

  // Checks the rules against the events in their order.
  int expected_fault(bool all_ok) const {
    if (all_ok) return -1;
    if (first_cause_ >= 0) return first_cause_;
    return first_request_ == 0 && !has_stopped_ ? first_victim_ : -1;
  }

  void one_event() {
    now_ += milliseconds(pick(300));
    const int what = pick(20);
    if (what == 0) return interrupt();
    if (what < 6) return apply(supervisor_.time_passed(now_));
    const int rank = pick(ranks_);
    if (!status_[rank]) end(rank, random_status());
  }

  ExitStatus random_status() {
    const ExitStatus statuses[] = {kOk,
                                   kOk,
                                   kVictim,
                                   kVictim,
                                   ExitStatus::exited(3),
                                   ExitStatus::exited(130),
                                   ExitStatus::killed(SIGSEGV),
                                   ExitStatus::killed(SIGINT),
                                   ExitStatus::killed(SIGKILL)};
    return statuses[pick(9)];
  }

  void end(int rank, ExitStatus status) {
    status_[rank] = status;
    const bool stopped = status == ExitStatus::exited(130) ||
                         (asked_[rank] && status == ExitStatus::killed(first_request_));
    has_stopped_ = has_stopped_ || status == ExitStatus::exited(130);
    if (!status.ok() && !forced_[rank] && !stopped) {
      fault_seen_ = true;
      int& first = status == kVictim ? first_victim_ : first_cause_;
      if (first < 0) first = rank;
    }
    apply(supervisor_.exited(rank, status, now_));
  }

  void interrupt() {
    if (first_request_ == 0) first_request_ = pick(2) == 0 ? SIGINT : SIGTERM;
    now_ += milliseconds(200);  // later than a repetition
    apply(supervisor_.interrupted(first_request_, now_));
  }

  void ring() {
    ASSERT_TRUE(timer_.has_value()) << "ranks are left and nothing would end them";
    now_ = std::max(now_, *timer_);
    apply(supervisor_.time_passed(now_));
  }

  void apply(const Supervisor::Actions& actions) {
    std::vector<int> killed;
    bool forced = false;
    for (const Action& action : actions) {
      if (const auto* timer = std::get_if<ArmTimer>(&action)) {
        EXPECT_GT(timer->when, now_);
        timer_ = timer->when;
        forced = true;
      }
      if (const auto* lost = std::get_if<MarkLost>(&action)) {
        EXPECT_TRUE(status_[lost->rank]) << "a living rank was declared lost";
      }
    }
    for (const Action& action : actions) {
      const auto* sent = std::get_if<SendSignal>(&action);
      if (sent == nullptr) continue;
      EXPECT_FALSE(status_[sent->rank]) << "a signal to a rank that is gone";
      if (forced || sent->signal == SIGKILL) {
        forced_[sent->rank] = true;
      } else {
        asked_[sent->rank] = true;
      }
      if (sent->signal == SIGKILL) killed.push_back(sent->rank);
    }
    for (const int rank : killed) end(rank, ExitStatus::killed(SIGKILL));
  }

  std::mt19937 random_;
  int ranks_;
  Supervisor supervisor_;
  std::vector<std::optional<ExitStatus>> status_;
  std::vector<bool> asked_ = std::vector<bool>(ranks_);
  std::vector<bool> forced_ = std::vector<bool>(ranks_);
  Supervisor::Time now_ = kStart;
  std::optional<Supervisor::Time> timer_;
  int first_request_ = 0;
  int first_cause_ = -1;
  int first_victim_ = -1;
  bool fault_seen_ = false;
  bool has_stopped_ = false;
};

TEST(Supervisor, EndsEveryRankAndBlamesNoVictimInAnyOrderOfEvents) {
  for (unsigned seed = 0; seed < 20000; ++seed) {
    RandomRun run(seed);
    run.play();
    run.check();
    ASSERT_FALSE(testing::Test::HasFailure()) << "seed " << seed;
  }
}

TEST(Supervisor, LetsTheOthersGoOnWithoutAKilledRankWhereTheyCan) {
  Supervisor supervisor(3, {.tolerates_lost_ranks = true});
  EXPECT_THAT(supervisor.exited(2, ExitStatus::killed(SIGKILL), kStart),
              ElementsAre(testing::VariantWith<MarkLost>(testing::_)));
  supervisor.exited(1, kOk, kStart);
  supervisor.exited(0, kOk, kStart);
  EXPECT_EQ(supervisor.exit_report().exit_code, 0);
  EXPECT_THAT(supervisor.exit_report().tolerated_failures, ElementsAre(2));
}

TEST(Supervisor, BlamesAKilledRankWhoseVictimsCouldNotGoOn) {
  Supervisor supervisor(3, {.tolerates_lost_ranks = true});
  supervisor.exited(2, ExitStatus::killed(SIGKILL), kStart);
  EXPECT_THAT(supervisor.exited(0, kVictim, kStart), Contains(an_armed_timer()));
  supervisor.exited(1, kVictim, kStart);
  EXPECT_EQ(supervisor.exit_report().failed_rank, 2);
  EXPECT_EQ(supervisor.exit_report().exit_code, 128 + SIGKILL);
}

TEST(Supervisor, LetsTheOthersGoOnWithoutThoseThatNeededAKilledRank) {
  Supervisor supervisor(4, {.tolerates_lost_ranks = true});
  supervisor.exited(3, ExitStatus::killed(SIGKILL), kStart);
  EXPECT_THAT(supervisor.exited(2, kVictim, kStart),
              ElementsAre(testing::VariantWith<MarkEnded>(testing::_)));
  supervisor.exited(1, kOk, kStart);
  supervisor.exited(0, kOk, kStart);
  EXPECT_EQ(supervisor.exit_report().exit_code, 0);
  EXPECT_THAT(supervisor.exit_report().tolerated_failures, ElementsAre(3, 2));
}

TEST(Supervisor, EndsAllIfNoRankWasKilledBeforeAVictim) {
  Supervisor supervisor(3, {.tolerates_lost_ranks = true});
  EXPECT_THAT(supervisor.exited(2, kVictim, kStart), Contains(an_armed_timer()));
}

TEST(Supervisor, NeedsTheFirstRankInAnyCase) {
  Supervisor supervisor(2, {.tolerates_lost_ranks = true});
  EXPECT_THAT(supervisor.exited(0, ExitStatus::killed(SIGKILL), kStart),
              Contains(an_armed_timer()));
  supervisor.exited(1, kOk, kStart);
  EXPECT_EQ(supervisor.exit_report().failed_rank, 0);
}

}  // namespace
}  // namespace trireme
