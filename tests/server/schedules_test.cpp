// The server without a network: thousands of random schedules in which requests overtake each
// other, arrive twice or not at all, replies get lost, workers die and rejoin, and a replica takes
// over.
#include <gtest/gtest.h>

#include "tests/server/simulation.h"

namespace trireme::test {
namespace {

using Mode = server::Consistency::Mode;

void simulate(Schedule schedule, int times) {
  int repeated = 0;
  int killed = 0;
  int failovers = 0;
  for (schedule.seed = 1; schedule.seed <= static_cast<unsigned>(times); ++schedule.seed) {
    schedule.workers = 1 + static_cast<int>(schedule.seed % 4);
    if (schedule.backup_workers > 0) schedule.workers += 1;
    schedule.staleness = static_cast<int>(schedule.seed % 3);
    Simulation simulation(schedule);
    simulation.run();
    if (testing::Test::HasFatalFailure()) return;
    repeated += simulation.repeated();
    killed += simulation.killed();
    failovers += simulation.failovers();
  }
  EXPECT_GT(repeated, times);
  if (schedule.deaths) {
    EXPECT_GT(killed, times / 10);
  }
  if (schedule.replica) {
    EXPECT_GT(failovers, times / 2);
  }
}

TEST(ServerSchedules, SynchronousApplyEachStepOnceAndReadExactlyIt) {
  simulate({.mode = Mode::kSynchronous}, 1000);
}

TEST(ServerSchedules, BoundedApplyEachPushOnceAndReadNothingTooOld) {
  simulate({.mode = Mode::kBounded}, 1000);
}

TEST(ServerSchedules, AsynchronousApplyEachPushOnce) {
  simulate({.mode = Mode::kAsynchronous}, 1000);
}

TEST(ServerSchedules, WithBackupWorkersMakeEachStepOnce) {
  simulate({.mode = Mode::kSynchronous, .backup_workers = 1}, 500);
}

TEST(ServerSchedules, WithDeathsApplyNoPushTwiceAndLoseNoneThatWasRepliedTo) {
  simulate({.mode = Mode::kBounded, .deaths = true}, 1000);
  simulate({.mode = Mode::kAsynchronous, .deaths = true}, 1000);
}

TEST(ServerSchedules, WithSnapshotsKeepTheirConsistency) {
  simulate({.mode = Mode::kSynchronous, .holds = true}, 500);
  simulate({.mode = Mode::kBounded, .holds = true}, 500);
}

TEST(ServerSchedules, InWhichAReplicaTakesOverLoseNoPushThatWasRepliedTo) {
  simulate({.mode = Mode::kSynchronous, .replica = true}, 500);
  simulate({.mode = Mode::kSynchronous, .backup_workers = 1, .holds = true, .replica = true}, 500);
  simulate({.mode = Mode::kBounded, .holds = true, .replica = true}, 500);
  simulate({.mode = Mode::kBounded, .deaths = true, .replica = true}, 500);
  simulate({.mode = Mode::kAsynchronous, .deaths = true, .holds = true, .replica = true}, 500);
}

}  // namespace
}  // namespace trireme::test
