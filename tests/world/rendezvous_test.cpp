#include "trireme/world/c10d/rendezvous.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <gmock/gmock.h>
#include <sys/socket.h>

#include <thread>

#include "tests/comm/loopback.h"
#include "tests/world/rank_processes.h"
#include "trireme/base/error.h"
#include "trireme/base/file_descriptor.h"
#include "trireme/world/c10d/gloo.h"
#include "trireme/world/c10d/meeting.h"

namespace trireme::c10d {
namespace {

using std::chrono::milliseconds;
using testing::HasSubstr;
using testing::MatchesRegex;

Rendezvous rendezvous_of(int world_size, milliseconds timeout = std::chrono::seconds(30)) {
  Rendezvous rendezvous;
  rendezvous.world_size = world_size;
  rendezvous.master_port = test::free_port();
  rendezvous.timeout = timeout;
  return rendezvous;
}

// In a process of its own, as `rank`.
std::function<void(int)> join_as(Rendezvous rendezvous, int rank) {
  rendezvous.rank = rank;
  return [=](int) { gloo(rendezvous); };
}

std::string error_of(const Rendezvous& rendezvous) {
  try {
    gloo(rendezvous);
  } catch (const UsageError& error) {
    return error.what();
  }
  return "no error";
}

TEST(Rendezvous, RefusesWhatMakesNoSense) {
  Rendezvous rendezvous;
  rendezvous.rank = 2;
  rendezvous.world_size = 2;
  EXPECT_EQ(error_of(rendezvous), "connect: rank must be in [0, 2), got 2");
  rendezvous.rank = 0;
  rendezvous.master_port = 0;
  EXPECT_EQ(error_of(rendezvous), "connect: the port of rank 0 must be in [1, 65535], got 0");
  rendezvous.master_port = 29500;
  rendezvous.master_address = "";
  EXPECT_EQ(error_of(rendezvous), "connect: the address of rank 0 is empty; set MASTER_ADDR");
}

TEST(Rendezvous, AWorldOfOneNeedsNoServer) {
  test::RankProcesses ranks(1, join_as(rendezvous_of(1), 0));
  ranks.expect_all_well();
}

TEST(Rendezvous, AnAddressWithoutAServerIsNamed) {
  const Rendezvous rendezvous = rendezvous_of(4, milliseconds(300));
  test::RankProcesses ranks(1, join_as(rendezvous, 3));
  EXPECT_EQ(ranks.error_of(0),
            fmt::format("connect: rank 3 of 4 did not reach rank 0 at 127.0.0.1:{} within 0.3 s: "
                        "Connection refused; check that rank 0 runs there and that MASTER_ADDR and "
                        "MASTER_PORT are the same on all ranks",
                        rendezvous.master_port));
}

TEST(Rendezvous, ANameThatCannotBeResolvedIsNamed) {
  Rendezvous rendezvous = rendezvous_of(2, milliseconds(300));
  // Too long for a label: no name server is asked.
  rendezvous.master_address = std::string(70, 'x');
  test::RankProcesses ranks(1, join_as(rendezvous, 1));
  EXPECT_THAT(ranks.error_of(0), MatchesRegex("connect: rank 1 of 2 did not reach rank 0 at "
                                              "x+:[0-9]+ within 0.3 s: the name cannot be "
                                              "resolved .*"));
}

TEST(Rendezvous, AProgramThatHasThePortIsNoRendezvous) {
  const Rendezvous rendezvous = rendezvous_of(2, milliseconds(300));
  const FileDescriptor silent = test::listening_on(rendezvous.master_port);
  test::RankProcesses ranks(1, join_as(rendezvous, 1));
  EXPECT_THAT(ranks.error_of(0),
              MatchesRegex("connect: rank 1 of 2 found no rendezvous at 127.0.0.1:.*another "
                           "program may have this port.*"));
}

TEST(Rendezvous, APortInUseIsSaidByRank0) {
  const Rendezvous rendezvous = rendezvous_of(2);
  const FileDescriptor taken = test::listening_on(rendezvous.master_port);
  test::RankProcesses ranks(1, join_as(rendezvous, 0));
  EXPECT_EQ(ranks.error_of(0),
            fmt::format("connect: rank 0 cannot serve on port {}: Address already in use; end the "
                        "program that has it, or give all ranks another MASTER_PORT",
                        rendezvous.master_port));
}

TEST(Rendezvous, RanksThatDisagreeOnTheWorldSizeAllSayWho) {
  const Rendezvous rendezvous = rendezvous_of(3);
  test::RankProcesses ranks(3, [&](int rank) {
    Rendezvous own = rendezvous;
    own.rank = rank;
    if (rank == 1) own.world_size = 2;
    gloo(own);
  });
  const std::string error = ranks.error_of(0);
  EXPECT_THAT(error, HasSubstr("rank 1 is \"trireme "));
  EXPECT_THAT(error, HasSubstr("2 ranks\""));
  EXPECT_THAT(error, HasSubstr("3 ranks\""));
  EXPECT_THAT(error, HasSubstr("start the same program with the same number of ranks everywhere"));
  EXPECT_EQ(ranks.error_of(1), error);
  EXPECT_EQ(ranks.error_of(2), error);
}

// Rank 1 of 2 has another greeting. Returns rank 0's error, which is rank 1's too.
std::string error_after(const std::string& greeting) {
  const Rendezvous rendezvous = rendezvous_of(2);
  test::RankProcesses ranks(2, [&](int rank) {
    Rendezvous own = rendezvous;
    own.rank = rank;
    if (rank == 0) gloo(own);
    Meeting(own, greeting).gather();
  });
  std::string error = ranks.error_of(0);
  EXPECT_EQ(ranks.error_of(1), error);
  return error;
}

TEST(Rendezvous, DifferentVersionsAllSayWho) {
  const std::string error = error_after("trireme 9.9.9");
  EXPECT_THAT(error, HasSubstr("rank 1 is \"trireme 9.9.9\""));
  EXPECT_THAT(error, HasSubstr("rank 0 is \"trireme "));
}

TEST(Rendezvous, TwoProcessesOfOneRankStopEveryone) {
  const Rendezvous rendezvous = rendezvous_of(3);
  test::RankProcesses ranks(3, [&](int process) {
    Rendezvous own = rendezvous;
    own.rank = process == 0 ? 0 : 1;
    gloo(own);
  });
  const std::string error = ranks.error_of(0);
  EXPECT_THAT(error, MatchesRegex("connect: two processes claim rank 1 of 3: process .* on .* and "
                                  "process .* on .*; give each process a RANK of its own"));
  for (const int process : {1, 2}) {
    EXPECT_EQ(ranks.error_of(process), error);
    EXPECT_THAT(error, HasSubstr(fmt::format("process {} on", ranks.process(process))));
  }
}

TEST(Rendezvous, RanksThatNeverComeAreNamedByAllOthers) {
  const Rendezvous rendezvous = rendezvous_of(5, milliseconds(1500));
  test::RankProcesses ranks(3, [&](int process) {
    Rendezvous own = rendezvous;
    own.rank = process == 0 ? 0 : process + 1;
    gloo(own);
  });
  for (int process = 0; process < 3; ++process) {
    EXPECT_EQ(ranks.error_of(process),
              fmt::format("connect: ranks 1, 4 of 5 did not come to 127.0.0.1:{} within 1.5 s; see "
                          "whether they were started and what they say",
                          rendezvous.master_port));
  }
}

TEST(Rendezvous, ALateRankIsWaitedFor) {
  const Rendezvous rendezvous = rendezvous_of(3);
  test::RankProcesses ranks(3, [&](int rank) {
    Rendezvous own = rendezvous;
    own.rank = rank;
    // Rank 0, which serves, is the last.
    std::this_thread::sleep_for(milliseconds(500 * (2 - rank)));
    gloo(own);
  });
  ranks.expect_all_well();
}

TEST(Rendezvous, RanksWithOneSecretMeet) {
  Rendezvous rendezvous = rendezvous_of(3);
  rendezvous.secret = JobSecret::random();
  rendezvous.job = "a job";
  test::RankProcesses ranks(3, [&](int rank) {
    Rendezvous own = rendezvous;
    own.rank = rank;
    gloo(own);
  });
  ranks.expect_all_well();
}

TEST(Rendezvous, ARankWithoutTheSecretIsKeptOutAndTheOthersWaitForTheirs) {
  Rendezvous rendezvous = rendezvous_of(2);
  rendezvous.secret = JobSecret::random();
  test::RankProcesses ranks(3, [&](int process) {
    Rendezvous own = rendezvous;
    own.rank = process == 0 ? 0 : 1;
    if (process == 1) own.secret = JobSecret();
    // The rank comes after the stranger has been refused.
    if (process == 2) std::this_thread::sleep_for(milliseconds(1000));
    gloo(own);
  });
  EXPECT_THAT(ranks.error_of(1), HasSubstr("rank 1 of 2 does not have the job secret of rank 0"));
  EXPECT_EQ(ranks.error_of(0), "");
  EXPECT_EQ(ranks.error_of(2), "");
}

// Ends with an error that has what this rank was told while it waited, the first `enough`
// sentences.
void wait_to_be_told(Rendezvous rendezvous, std::size_t enough) {
  std::vector<std::string> told;
  rendezvous.first_notice = milliseconds(100);
  rendezvous.on_notice = [&](const std::string& text) {
    told.push_back(text);
    if (told.size() >= enough) throw std::runtime_error(fmt::format("{}", fmt::join(told, "\n")));
  };
  gloo(rendezvous);
}

TEST(Rendezvous, Rank0IsToldWhoIsMissingAndWhoWasRefused) {
  Rendezvous rendezvous = rendezvous_of(3);
  rendezvous.secret = JobSecret::random();
  test::RankProcesses ranks(3, [&](int process) {
    Rendezvous own = rendezvous;
    own.rank = process;
    if (process == 0) wait_to_be_told(own, 4);
    if (process == 2) own.secret = JobSecret::random();
    gloo(own);
  });
  const std::string told = ranks.error_of(0);
  EXPECT_THAT(told, HasSubstr(fmt::format("waiting at 127.0.0.1:{} for rank 2 of 3, for ",
                                          rendezvous.master_port)));
  EXPECT_THAT(told,
              HasSubstr("refused 127.0.0.1, which has another job secret or none; the ranks of "
                        "a job have one secret (--job-secret, TRIREME_JOB_SECRET_FILE)"));
}

TEST(Rendezvous, ARankIsToldThatItWaitsForRank0) {
  Rendezvous rendezvous = rendezvous_of(3);
  rendezvous.rank = 1;
  test::RankProcesses ranks(1, [&](int) { wait_to_be_told(rendezvous, 1); });
  EXPECT_EQ(ranks.error_of(0),
            fmt::format("waiting for rank 0 at 127.0.0.1:{}", rendezvous.master_port));
}

TEST(Rendezvous, StrangersDoNotEndTheMeeting) {
  const Rendezvous rendezvous = rendezvous_of(3);
  test::RankProcesses ranks(3, [&](int rank) {
    Rendezvous own = rendezvous;
    own.rank = rank;
    if (rank == 2) std::this_thread::sleep_for(milliseconds(1500));
    gloo(own);
  });
  std::vector<FileDescriptor> strangers;
  const auto end = std::chrono::steady_clock::now() + milliseconds(1000);
  while (std::chrono::steady_clock::now() < end) {
    FileDescriptor socket = test::connected_to(rendezvous.master_port);
    if (socket.is_open()) {
      const std::string text = std::vector<std::string>{
          "x", "GET / HTTP/1.1\r\n\r\n", std::string(200, '\xff')}[strangers.size() % 3];
      send(socket.fd(), text.data(), text.size(), MSG_NOSIGNAL);
      strangers.push_back(std::move(socket));  // it stays, half open
    }
    std::this_thread::sleep_for(milliseconds(20));
  }
  EXPECT_GT(strangers.size(), 5U);
  ranks.expect_all_well();
}

TEST(Rendezvous, TextsOfOthersCannotWriteToATerminal) {
  const std::string error = error_after("trireme \x1b[2J\nroot:");
  EXPECT_THAT(error, HasSubstr("rank 1 is \"trireme \\x1b[2J\\x0aroot:\""));
  EXPECT_EQ(error.find('\x1b'), std::string::npos);
  EXPECT_EQ(error.find('\n'), std::string::npos);
}

TEST(Rendezvous, TwoJobsOnOnePortDoNotMeet) {
  const Rendezvous rendezvous = rendezvous_of(2, milliseconds(1500));
  test::RankProcesses ranks(2, [&](int rank) {
    Rendezvous own = rendezvous;
    own.rank = rank;
    own.job = rank == 0 ? "slurm 7.0" : "slurm 7.1";
    gloo(own);
  });
  EXPECT_THAT(ranks.error_of(0), HasSubstr("rank 1 of 2 did not come"));
  EXPECT_THAT(ranks.error_of(1), HasSubstr("it belongs to another job"));
}

TEST(Rendezvous, EachAttemptMeetsAnewInAStoreThatIsServed) {
  Rendezvous rendezvous = rendezvous_of(3);
  rendezvous.store_is_served = true;
  test::RankProcesses agent(1, [&](int) {
    const Store store = open_store(rendezvous, true, rendezvous.timeout);
    std::this_thread::sleep_for(std::chrono::seconds(60));
  });
  for (const char* attempt : {"0", "1"}) {
    rendezvous.attempt = attempt;
    test::RankProcesses ranks(3, [&](int rank) {
      Rendezvous own = rendezvous;
      own.rank = rank;
      gloo(own);
    });
    ranks.expect_all_well();
  }
}

}  // namespace
}  // namespace trireme::c10d
