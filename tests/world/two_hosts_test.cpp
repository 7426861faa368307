// Ranks on several hosts: Gloo over TCP between them, shared memory inside each.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <signal.h>

#include <chrono>
#include <thread>

#include "tests/world/hosts.h"
#include "tests/world/world_program.h"

namespace trireme::test {
namespace {

using namespace std::chrono_literals;
using testing::AllOf;
using testing::AnyOf;
using testing::HasSubstr;
using testing::Not;

/// The ranks of one world, host by host, with torchrun's variables.
class Ranks {
 public:
  /// `on_hosts`: how many ranks each host has. `name_of_itself`: what the first host calls itself.
  Ranks(const TestHosts& hosts, const std::vector<int>& on_hosts, const Command& arguments,
        const std::string& name_of_itself = {}) {
    int world_size = 0;
    for (const int ranks : on_hosts) world_size += ranks;
    for (int host = 0; host < static_cast<int>(on_hosts.size()); ++host) {
      for (int local = 0; local < on_hosts[host]; ++local) {
        // No other program is in these networks, so any port is free.
        Variables variables = torchrun_variables(static_cast<int>(ranks_.size()), world_size,
                                                 hosts.address(0), 29500);
        if (host == 0 && !name_of_itself.empty()) variables["MASTER_ADDR"] = name_of_itself;
        variables["LOCAL_RANK"] = std::to_string(local);
        variables["LOCAL_WORLD_SIZE"] = std::to_string(on_hosts[host]);
        ranks_.push_back(hosts.start(host, world_program(arguments), variables));
      }
    }
  }

  int size() const { return static_cast<int>(ranks_.size()); }
  Child& operator[](int rank) { return ranks_.at(rank); }

  /// Until every rank is in the midst of collectives.
  void wait_until_they_repeat() {
    for (Child& rank : ranks_) rank.wait_for("repeating");
  }

  std::vector<Outcome> wait() {
    std::vector<Outcome> outcomes;
    for (Child& rank : ranks_) outcomes.push_back(rank.wait());
    return outcomes;
  }

 private:
  std::vector<Child> ranks_;
};

void expect_sums(const std::vector<Outcome>& outcomes, const std::string& description) {
  const auto ranks = static_cast<int>(outcomes.size());
  for (int rank = 0; rank < ranks; ++rank) {
    EXPECT_EQ(outcomes[rank].exit_code, 0);
    EXPECT_EQ(outcomes[rank].out, fmt::format("rank {} of {}: {}; {}\n", rank, ranks, description,
                                              expected_sums(ranks)));
  }
}

/// The error with which a rank ended, from "CommError: " on.
std::string error_of(const Outcome& outcome, const std::string& kind = "CommError: ") {
  const auto begin = outcome.out.find(kind);
  if (begin == std::string::npos) return "no " + kind + outcome.out;
  return outcome.out.substr(begin);
}

TEST(TwoHosts, OfTwoRanksEachSumToTheBitsOfOneHost) {
  const TestHosts hosts(2);
  expect_sums(Ranks(hosts, {2, 2}, {"sum"}).wait(),
              "gloo, 4 ranks on 2 hosts that share memory, sums in tree order");
}

TEST(TwoHosts, OfUnequalSizeSumToTheBitsOfOneHost) {
  const TestHosts hosts(2);
  expect_sums(Ranks(hosts, {2, 1}, {"sum"}).wait(),
              "gloo, 3 ranks on 2 hosts that share memory, sums in tree order");
}

TEST(ThreeHosts, OfOneRankEachSumToTheBitsOfOneHost) {
  const TestHosts hosts(3);
  expect_sums(Ranks(hosts, {1, 1, 1}, {"sum"}).wait(), "gloo, 3 ranks, sums in tree order");
}

TEST(ThreeHosts, OfTwoRanksOneRankAndOneRankSumToTheBitsOfOneHost) {
  const TestHosts hosts(3);
  expect_sums(Ranks(hosts, {2, 1, 1}, {"sum"}).wait(),
              "gloo, 4 ranks on 3 hosts that share memory, sums in tree order");
}

// As with Debian's /etc/hosts, and in the first pod of some Kubernetes jobs.
TEST(TwoHosts, TheFirstHostMayKnowItselfByALoopbackAddress) {
  const TestHosts hosts(2);
  for (const char* name : {"localhost", "127.0.1.1"}) {
    expect_sums(Ranks(hosts, {2, 1}, {"--timeout", "10000", "sum"}, name).wait(),
                "gloo, 3 ranks on 2 hosts that share memory, sums in tree order");
  }
}

TEST(TwoHosts, AKilledRankIsNamedOnBothHosts) {
  const TestHosts hosts(2);
  for (const int victim : {0, 3}) {
    Ranks ranks(hosts, {2, 2}, {"repeat", "100000"});
    ranks.wait_until_they_repeat();
    ranks[victim].signal(SIGKILL);
    const std::vector<Outcome> outcomes = ranks.wait();
    for (int rank = 0; rank < ranks.size(); ++rank) {
      if (rank == victim) continue;
      EXPECT_EQ(outcomes[rank].exit_code, 4);
      EXPECT_THAT(error_of(outcomes[rank]),
                  HasSubstr(fmt::format("CommError: rank {} is lost: ", victim)));
    }
  }
}

TEST(TwoHosts, ThatAreCutApartEachNameARankOfTheOther) {
  const TestHosts hosts(2);
  Ranks ranks(hosts, {2, 2}, {"--timeout", "3000", "repeat", "100000"});
  ranks.wait_until_they_repeat();
  hosts.cut(1);
  const std::vector<Outcome> outcomes = ranks.wait();
  for (int rank = 0; rank < ranks.size(); ++rank) {
    EXPECT_EQ(outcomes[rank].exit_code, 4);
    const auto other_host = rank < 2 ? AnyOf(HasSubstr("rank 2 "), HasSubstr("rank 3 "))
                                     : AnyOf(HasSubstr("rank 0 "), HasSubstr("rank 1 "));
    EXPECT_THAT(error_of(outcomes[rank]), AllOf(HasSubstr("CommError: "), other_host));
  }
}

TEST(TwoHosts, ThatAreCutApartNoticeItByTheirHeartbeats) {
  const TestHosts hosts(2);
  Ranks ranks(hosts, {2, 1},
              {"--timeout", "600000", "--heartbeat-timeout", "3000", "repeat", "100000"});
  ranks.wait_until_they_repeat();
  hosts.cut(1);
  for (const Outcome& outcome : ranks.wait()) {
    EXPECT_EQ(outcome.exit_code, 4);
    EXPECT_THAT(error_of(outcome), HasSubstr("its host is out of reach or its process is stopped"));
  }
}

TEST(TwoHosts, ThatAreCutApartForAMomentGoOn) {
  const TestHosts hosts(2);
  Ranks ranks(hosts, {2, 2}, {"repeat", "6000"});
  ranks.wait_until_they_repeat();
  hosts.cut(1);
  std::this_thread::sleep_for(2s);
  hosts.mend(1);
  for (const Outcome& outcome : ranks.wait()) {
    EXPECT_EQ(outcome.exit_code, 0);
    EXPECT_THAT(outcome.out, HasSubstr("all sums were right"));
  }
}

TEST(TwoHosts, ARankThatIsStoppedForAWhileIsWaitedFor) {
  const TestHosts hosts(2);
  Ranks ranks(hosts, {2, 2}, {"repeat", "8000"});
  ranks.wait_until_they_repeat();
  ranks[2].signal(SIGSTOP);
  std::this_thread::sleep_for(6s);
  ranks[2].signal(SIGCONT);
  for (const Outcome& outcome : ranks.wait()) {
    EXPECT_EQ(outcome.exit_code, 0);
    EXPECT_THAT(outcome.out, HasSubstr("all sums were right"));
  }
}

TEST(TwoHosts, ARankThatIsStoppedForTooLongIsNamed) {
  const TestHosts hosts(2);
  Ranks ranks(hosts, {2, 2}, {"--timeout", "7000", "repeat", "100000"});
  ranks.wait_until_they_repeat();
  ranks[2].signal(SIGSTOP);
  for (const int rank : {0, 1, 3}) {
    const Outcome outcome = ranks[rank].wait();
    EXPECT_EQ(outcome.exit_code, 4);
    EXPECT_THAT(error_of(outcome), AllOf(HasSubstr("CommError: rank 2 "),
                                         AnyOf(HasSubstr("nothing has been heard of it"),
                                               HasSubstr("its process is stopped"))));
  }
}

TEST(TwoHosts, ALateRankIsWaitedFor) {
  const TestHosts hosts(2);
  expect_sums(Ranks(hosts, {2, 2}, {"late", "3", "1500"}).wait(),
              "gloo, 4 ranks on 2 hosts that share memory, sums in tree order");
}

TEST(TwoHosts, ARankAfterTheDeadlineIsNamedAsRunning) {
  const TestHosts hosts(2);
  Ranks ranks(hosts, {2, 2}, {"--timeout", "1500", "late", "3", "100000"});
  for (const int rank : {0, 1, 2}) {
    const Outcome outcome = ranks[rank].wait();
    EXPECT_EQ(outcome.exit_code, 4);
    EXPECT_THAT(error_of(outcome),
                AllOf(HasSubstr("CommError: rank 3 did not come to all_reduce"),
                      HasSubstr("its last call was barrier"), HasSubstr("its process is running")));
  }
}

TEST(TwoHosts, AMismatchEndsInTheSameErrorOnEveryRank) {
  const TestHosts hosts(2);
  const std::vector<Outcome> outcomes = Ranks(hosts, {2, 2}, {"mismatch", "3"}).wait();
  const std::string error = error_of(outcomes[0], "UsageError: ");
  EXPECT_THAT(error, AllOf(HasSubstr("rank 3"), HasSubstr("4096"), HasSubstr("5000"),
                           HasSubstr("world_program.cpp")));
  for (const Outcome& outcome : outcomes) {
    EXPECT_EQ(outcome.exit_code, 2);
    EXPECT_EQ(error_of(outcome, "UsageError: "), error);
  }
}

// 16 MiB go each way: 0.134 s at the link's rate, 0.140 s with the headers of Ethernet, IP and TCP.
TEST(TwoHosts, ALinkOfOneGigabitIsSharedByAllRanks) {
  const TestHosts hosts(2);
  hosts.slow_down("1gbit");
  for (const int on_each : {1, 2}) {
    const auto outcomes = Ranks(hosts, {on_each, on_each}, {"bandwidth", "16", "2"}).wait();
    for (const Outcome& outcome : outcomes) EXPECT_EQ(outcome.exit_code, 0);
    fmt::print("{}", outcomes[0].out);
  }
}

}  // namespace
}  // namespace trireme::test
