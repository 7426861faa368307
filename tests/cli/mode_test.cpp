// Runs in which ranks do not wait for each other, as programs: ranks that are killed or diverge.
// tests/train has what such runs compute.

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

#include "tests/cli/program.h"
#include "tests/train/words.h"
#include "trireme/base/files.h"

namespace trireme::test {
namespace {

using testing::HasSubstr;

const Words kInPairs = {"communication.group_size=2"};

std::string name_of(const Words& mode) {
  return mode.back().substr(mode.back().find('=') + 1);
}

class ModeOfARun : public testing::Test {
 protected:
  Words words(const std::string& run, int ranks, const Words& more) {
    const Words all = {"train",
                       "-n",
                       std::to_string(ranks),
                       "--json",
                       "data.samples=600",
                       "data.features_count=7",
                       "data.holdout=0.1",
                       "training.global_batch=24",
                       "training.virtual_workers=12",
                       "training.threads=1",
                       "training.steps=3000",
                       "optimizer.name=adam",
                       "optimizer.lr=0.02",
                       "metrics.every_steps=5",
                       "run.directory=" + run};
    return all + more;
  }

  // Kills a rank once the run has been evaluated.
  Ended with_killed(int rank, const std::string& run, int ranks, const Words& mode) {
    Program program(folder_.path(), words(run, ranks, mode));
    program.wait_for(folder_ / run / "metrics.jsonl", "\"evaluation\"");
    const auto processes = children_of(program.pid());
    if (processes.size() != static_cast<std::size_t>(ranks)) {
      ADD_FAILURE() << processes.size() << " ranks";
      return {};
    }
    ::kill(processes[static_cast<std::size_t>(rank)], SIGKILL);
    return program.wait();
  }

  static double r2_of(const Ended& ended) {
    const auto result = nlohmann::json::parse(ended.out, nullptr, false);
    return result.is_discarded() ? -1 : result["evaluation"].value("r2", -1.0);
  }

  TemporaryFolder folder_;
};

TEST_F(ModeOfARun, ThroughServersContinuesWithoutAKilledRank) {
  for (const Words& mode : {asynchronous(), bounded_staleness(), backup_workers()}) {
    const Ended ended = with_killed(2, name_of(mode), 3, mode);
    EXPECT_EQ(ended.exit_code, 0) << ended.err;
    EXPECT_THAT(ended.err, HasSubstr("rank 2 was killed by SIGKILL"));
    EXPECT_THAT(ended.err, HasSubstr("the others have gone on without it"));
    EXPECT_GT(r2_of(ended), 0.95) << name_of(mode);
  }
}

// The first rank of a group talks with the servers, the second does not.
TEST_F(ModeOfARun, ThroughServersContinuesWithoutTheGroupOfAKilledRank) {
  for (const int victim : {2, 3}) {
    const Ended ended = with_killed(victim, std::to_string(victim), 4, asynchronous() + kInPairs);
    EXPECT_EQ(ended.exit_code, 0) << ended.err;
    EXPECT_THAT(ended.err, HasSubstr(fmt::format("rank {} was killed by SIGKILL", victim)));
    EXPECT_THAT(ended.err,
                HasSubstr(fmt::format("rank {} has ended with a rank of its group", 5 - victim)));
    EXPECT_GT(r2_of(ended), 0.95) << victim;
  }
}

TEST_F(ModeOfARun, ThroughServersEndsWithAKilledRankOfTheFirstGroup) {
  const Ended ended =
      with_killed(1, "run", 4, asynchronous() + kInPairs + Words{"training.steps=400000"});
  EXPECT_EQ(ended.exit_code, 128 + SIGKILL);
  EXPECT_THAT(ended.err, HasSubstr("rank 1"));
}

TEST_F(ModeOfARun, SynchronousThroughServersNamesAKilledRank) {
  const Ended ended =
      with_killed(2, "run", 3, strategy(kParameterServer) + Words{"training.steps=400000"});
  EXPECT_EQ(ended.exit_code, 128 + SIGKILL);
  EXPECT_THAT(ended.err, HasSubstr("rank 2"));
}

TEST_F(ModeOfARun, LocalStepsEndWithTheErrorOfTheOneRankThatDiverged) {
  // The last row is rank 2's, and its square is no f32.
  std::string table = "x,y\n";
  for (int row = 0; row < 59; ++row) table += fmt::format("{},{}\n", row % 7, row % 7);
  write_file_atomically(folder_ / "table.csv", table + "1e30,1\n");
  const Ended ended = run_program(
      folder_.path(),
      Words{"train", "-n", "3", "training.threads=1", "data.format=csv", "data.path=table.csv",
            "data.target=y", "data.sampler=block", "training.global_batch=12", "training.steps=100",
            "communication.mode=hybrid", "communication.local_steps=50",
            "communication.timeout=20"});
  EXPECT_EQ(ended.exit_code, 5) << ended.err;
  EXPECT_THAT(ended.err, HasSubstr("training diverged: the loss of step 5 is inf"));
  EXPECT_THAT(ended.err, HasSubstr("the first parameter with a bad gradient is"));
}

TEST_F(ModeOfARun, WithoutWaitingFailsAsTheRankThatDivergesAndHasNoModel) {
  // The last rows are rank 2's, and their square is no f32.
  std::string table = "x,y\n";
  for (int row = 0; row < 48; ++row) table += fmt::format("{},{}\n", row % 7, row % 7);
  for (int row = 0; row < 12; ++row) table += "1e30,1\n";
  write_file_atomically(folder_ / "table.csv", table);
  for (const Words& mode : {asynchronous(), bounded_staleness(), backup_workers()}) {
    const std::string run = name_of(mode);
    const Ended ended = run_program(
        folder_.path(),
        Words{"train", "-n", "3", "training.threads=1", "data.format=csv", "data.path=table.csv",
              "data.target=y", "data.sampler=block", "training.global_batch=12",
              "training.steps=20", "communication.timeout=20", "run.directory=" + run} +
            mode);
    EXPECT_EQ(ended.exit_code, 5) << run << ended.err;
    EXPECT_EQ(ended.out, "") << run;
    EXPECT_THAT(ended.err, HasSubstr("training diverged")) << run;
    EXPECT_FALSE(std::filesystem::exists(folder_ / run / "model.safetensors")) << run;
  }
}

TEST_F(ModeOfARun, ThatChangesSaysWhatTheCheckpointDoesNotHold) {
  const Ended first = run_program(folder_.path(), words("run", 3, {"training.steps=20"}));
  ASSERT_EQ(first.exit_code, 0) << first.err;
  const Ended second = run_program(folder_.path(), Words{"train", "--resume", "run", "-n", "3"} +
                                                       diloco() + Words{"training.steps=40"});
  ASSERT_EQ(second.exit_code, 0) << second.err;
  EXPECT_THAT(read_file(folder_ / "run" / "logs" / "rank-0.log"),
              HasSubstr("the checkpoint does not hold strategy.local_steps."));
}

}  // namespace
}  // namespace trireme::test
