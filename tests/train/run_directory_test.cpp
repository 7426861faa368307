// The files of a run, and that an error before the first step leaves none.

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/train/runs.h"
#include "trireme/base/error.h"
#include "trireme/base/files.h"

namespace trireme::test {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;
using testing::ThrowsMessage;

class RunFiles : public testing::Test {
 protected:
  std::set<std::string> files(const std::string& run) const {
    std::set<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(runs_ / run)) {
      names.insert(entry.path().filename().string());
    }
    return names;
  }

  template <class Error>
  void expect_nothing_written(const Words& words, const std::string& message) {
    for (const int ranks : {1, 3}) {
      EXPECT_THAT([&] { runs_.train("run", ranks, words); },
                  ThrowsMessage<Error>(HasSubstr(message)));
      EXPECT_FALSE(std::filesystem::exists(runs_ / "run")) << message;
    }
  }

  Runs runs_;
};

TEST_F(RunFiles, AreConfigurationMetricsCheckpointsAndModel) {
  runs_.train("run", 3, {"data.standardize=true"});
  EXPECT_THAT(files("run"), ElementsAre("checkpoints", "config.toml", "metrics.jsonl",
                                        "model.safetensors", "standardization.safetensors"));
}

TEST_F(RunFiles, AreNotWrittenBeforeAnError) {
  write_file_atomically(runs_ / "torn.csv", "x,y\n1,2\n3\n");
  const std::string table = "data.path=" + (runs_ / "torn.csv").string();
  expect_nothing_written<DataError>({"data.format=csv", table, "data.target=y"}, "torn.csv:3:2");
  expect_nothing_written<DataError>({"data.format=csv", "data.path=nowhere.csv", "data.target=y"},
                                    "no such file");
  expect_nothing_written<UsageError>({"training.global_batch=6"}, "for each of the 12");
  expect_nothing_written<UsageError>({"training.shares=[1, 2]"}, "a number for each of the ");
  expect_nothing_written<UsageError>({"data.holdout=0.001"}, "data.holdout must leave samples");
  expect_nothing_written<UsageError>({"model.name=cnn"}, "needs images");
}

// Modes and options that exclude each other.
TEST_F(RunFiles, AreNotWrittenWhereKeysContradictEachOther) {
  const auto refused = [&](const Words& words, const std::string& message) {
    expect_nothing_written<UsageError>(words, message);
  };
  const Words backup_workers = {"communication.mode=hybrid", "communication.hybrid=backup_workers"};
  refused(strategy(kHostShared) + diloco(), "parallelism.strategy");
  refused(strategy(kHostShared) + Words{"communication.mode=asynchronous"}, kHostShared);
  refused(strategy(kHostShared) + Words{"communication.compression=sign"}, "compression");
  refused(strategy(kParameterServer) + Words{"communication.compression=int8"}, "compression");
  refused(strategy(kParameterServer) + Words{"communication.group_size=2"}, "group_size");
  refused(diloco() + Words{"communication.delay=8"}, "communication.delay must be less than the 8");
  refused(diloco() + Words{"communication.fragments=9"}, "must be at most the 8");
  refused(backup_workers + Words{"communication.backup_workers=3"},
          ", got 3: the servers wait for at least one");
  refused(backup_workers + Words{"communication.group_size=3"},
          ", got 1: the servers wait for at least one");
  refused(backup_workers + Words{"communication.group_size=0"}, "got 1");
}

TEST_F(RunFiles, ReplaceThoseOfAnEarlierRun) {
  const Words words = {"checkpoint.every_steps=10", "checkpoint.keep=100"};
  runs_.train("run", 3, words + Words{"data.standardize=true"});
  const std::string model = runs_.model("run");
  write_file_atomically(runs_ / "run" / "notes.txt", "of the user");
  runs_.train("run", 2, words + Words{"training.steps=15", "training.seed=2"});
  EXPECT_THAT(runs_.checkpoints("run"), ElementsAre(10, 15));
  EXPECT_NE(runs_.model("run"), model);
  EXPECT_THAT(files("run"), ElementsAre("checkpoints", "config.toml", "metrics.jsonl",
                                        "model.safetensors", "notes.txt"));
  EXPECT_THAT(runs_.metrics("run").back(), HasSubstr("\"step\":15"));
  EXPECT_THAT(runs_.metrics("run").size(), 17u);
}

// Ranks whose state the first rank cannot save have checkpoints of their own.
TEST_F(RunFiles, ReplaceTheCheckpointsOfEachRankOfAnEarlierRun) {
  const Words words = {"communication.mode=asynchronous", "communication.compression=int8"};
  runs_.train("run", 3, words);
  const std::filesystem::path checkpoints = runs_ / "run" / "checkpoints";
  EXPECT_TRUE(std::filesystem::exists(checkpoints / "rank-1"));
  runs_.train("run", 3, {"training.steps=4"});
  for (const auto& entry : std::filesystem::directory_iterator(checkpoints)) {
    EXPECT_EQ(entry.path().filename(), "step-4");
  }
}

}  // namespace
}  // namespace trireme::test
