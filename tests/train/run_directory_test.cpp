// The files of a run, and that an error before the first step leaves none.

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <fstream>

#include "tests/train/runs.h"
#include "trireme/base/error.h"
#include "trireme/base/files.h"

namespace trireme::test {
namespace {

using testing::AllOf;
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

// What a user may have in a folder that is then named as run.directory.
TEST_F(RunFiles, AreNotWrittenAmongThoseOfOthers) {
  const std::vector<std::string> others = {"checkpoints/best.pt",
                                           "checkpoints/step-9/manifest.json",
                                           "config.toml",
                                           "metrics.jsonl",
                                           "model.safetensors",
                                           "logs/rank-0.log.gz",
                                           "logs",
                                           "trireme.lock.txt",
                                           "model.safetensors.partial-",
                                           ".git/config"};
  for (const std::string& other : others) {
    const std::filesystem::path path = runs_ / "project" / other;
    std::filesystem::create_directories(path.parent_path());
    std::ofstream(path) << "of the user";
    for (const int ranks : {1, 3}) {
      EXPECT_THAT([&] { runs_.train("project", ranks); },
                  ThrowsMessage<UsageError>(AllOf(
                      HasSubstr("project must be empty, hold a run or not exist, but it has \""),
                      HasSubstr("choose another directory"))))
          << other;
    }
    EXPECT_EQ(read_file(path), "of the user");
    EXPECT_EQ(files("project").size(), 1u) << other;
    std::filesystem::remove_all(runs_ / "project");
  }
}

TEST_F(RunFiles, OfAnEarlierRunAreRemovedAndNoOthers) {
  const Words words = {"checkpoint.every_steps=10", "checkpoint.keep=100"};
  runs_.train("run", 2, words);
  runs_.train("other", 2, words);
  const std::filesystem::path checkpoints = runs_ / "run" / "checkpoints";
  const std::vector<std::filesystem::path> others = {
      "best.pt",          "step-10/notes.txt", "step-20/best/inside",
      "rank-1/notes.txt", "rank-x/step-3/a",   "step-50.partial/notes.txt"};
  for (const auto& other : others) {
    std::filesystem::create_directories((checkpoints / other).parent_path());
    std::ofstream(checkpoints / other) << "of the user";
  }
  std::filesystem::create_directory_symlink(runs_ / "other" / "checkpoints" / "step-30",
                                            checkpoints / "step-35");
  runs_.train("run", 3, words + Words{"training.steps=15"});
  int kept = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(checkpoints)) {
    if (entry.is_regular_file() && entry.file_size() == 11) ++kept;
  }
  EXPECT_EQ(kept, std::ssize(others));
  EXPECT_TRUE(std::filesystem::exists(runs_ / "other/checkpoints/step-30/manifest.json"));
  EXPECT_FALSE(std::filesystem::exists(checkpoints / "step-40"));
}

TEST_F(RunFiles, BehindALinkToCheckpointsOfAnotherRunAreKept) {
  const Words words = {"checkpoint.every_steps=10", "checkpoint.keep=100"};
  runs_.train("run", 2);
  runs_.train("other", 2, words);
  std::filesystem::remove_all(runs_ / "run" / "checkpoints");
  std::filesystem::create_directory_symlink(runs_ / "other" / "checkpoints",
                                            runs_ / "run" / "checkpoints");
  EXPECT_THAT([&] { runs_.train("run", 3); },
              ThrowsMessage<UsageError>(HasSubstr("checkpoints is a symbolic link")));
  EXPECT_THAT(runs_.checkpoints("other"), ElementsAre(10, 20, 30, 40));
}

TEST_F(RunFiles, LeftByKilledRunsAreRemovedAtTheNextStart) {
  runs_.train("run", 1);
  const std::vector<std::string> left = {"model.safetensors.partial-4711",
                                         "config.toml.partial-1",
                                         "metrics.jsonl.partial-12",
                                         "standardization.safetensors.partial-9",
                                         "trireme.lock",
                                         "checkpoints/step-50.partial/rank-0.safetensors",
                                         "checkpoints/rank-3/step-5.partial/manifest.json"};
  const std::vector<std::string> kept = {"model.safetensors.partial-a", "notes.partial-4711"};
  for (const bool resumes : {true, false}) {
    for (const auto& name : left + kept) {
      std::filesystem::create_directories((runs_ / "run" / name).parent_path());
      std::ofstream(runs_ / "run" / name) << "torn";
    }
    resumes ? runs_.resume("run", 3) : runs_.train("run", 3);
    const auto exists = [&](const std::string& name) {
      return std::filesystem::exists(runs_ / "run" / name);
    };
    for (const auto& name : left) EXPECT_FALSE(exists(name)) << name;
    for (const auto& name : kept) EXPECT_TRUE(exists(name)) << name;
  }
}

// A run that was killed before its first step has left the folder so.
TEST_F(RunFiles, MayFollowWhatAKilledStartHasLeft) {
  std::filesystem::create_directories(runs_ / "run" / "logs");
  for (const char* name : {"trireme.lock", "logs/rank-0.log", "config.toml.partial-17"}) {
    std::ofstream(runs_ / "run" / name) << "text";
  }
  std::filesystem::create_directory(runs_ / "run" / "trireme-probe.folder");
  runs_.train("run", 2);
  EXPECT_THAT(files("run"), ElementsAre("checkpoints", "config.toml", "logs", "metrics.jsonl",
                                        "model.safetensors"));
}

TEST_F(RunFiles, ThatAreFifosOrLoopsAreErrorsAndDoNotHang) {
  runs_.train("run", 2);
  for (const std::string name :
       {"metrics.jsonl", "config.toml", "trireme.lock", "model.safetensors"}) {
    const std::filesystem::path path = runs_ / "run" / name, aside = runs_ / "aside";
    if (std::filesystem::exists(path)) std::filesystem::rename(path, aside);
    ASSERT_EQ(::mkfifo(path.c_str(), 0600), 0);
    EXPECT_THROW(runs_.resume("run", 3), Error) << name;
    EXPECT_TRUE(std::filesystem::is_fifo(path)) << name;
    std::filesystem::remove(path);
    std::filesystem::create_symlink(path, path);
    EXPECT_THROW(runs_.resume("run", 3), Error) << name;
    std::filesystem::remove(path);
    if (std::filesystem::exists(aside)) std::filesystem::rename(aside, path);
  }
  std::filesystem::rename(runs_ / "run" / "checkpoints", runs_ / "aside");
  std::filesystem::create_symlink("checkpoints", runs_ / "run" / "checkpoints");
  EXPECT_THAT([&] { runs_.resume("run", 3); },
              ThrowsMessage<DataError>(HasSubstr("Too many levels of symbolic links")));
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
