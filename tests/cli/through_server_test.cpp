// Runs whose parameters live on servers: in step, killed, stopped, resumed in other modes.

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

#include "tests/cli/program.h"
#include "trireme/base/files.h"
#include "trireme/checkpoint/checkpoint.h"

namespace trireme {
namespace {

using test::Ended;
using test::Program;
using test::run_program;
using testing::HasSubstr;

using Words = std::vector<std::string>;

const Words kAsynchronous = {"communication.mode=asynchronous"};
const Words kBounded = {"communication.mode=hybrid", "communication.hybrid=bounded_staleness"};
const Words kBackup = {"communication.mode=hybrid", "communication.hybrid=backup_workers"};
const Words kInPairs = {"communication.group_size=2"};
const Words kTrain = {"train", "training.threads=1"};

Words operator+(Words words, const Words& more) {
  words.insert(words.end(), more.begin(), more.end());
  return words;
}

class ServerRun : public testing::Test {
 protected:
  Words words(const std::string& run, int ranks, int steps, const Words& more) {
    Words all = {"train",
                 "-n",
                 std::to_string(ranks),
                 "--json",
                 "data.samples=600",
                 "data.features_count=7",
                 "data.holdout=0.1",
                 "training.global_batch=24",
                 "training.virtual_workers=12",
                 "training.threads=1",
                 "training.steps=" + std::to_string(steps),
                 "optimizer.name=adam",
                 "optimizer.lr=0.02",
                 "metrics.every_steps=5",
                 "run.directory=" + run};
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }

  Ended train(const std::string& run, int ranks, int steps, const Words& more) {
    return run_program(folder_.path(), words(run, ranks, steps, more));
  }

  static double r2_of(const Ended& ended) {
    const auto result = nlohmann::json::parse(ended.out, nullptr, false);
    return result.is_discarded() ? -1 : result["evaluation"].value("r2", -1.0);
  }

  std::string model_of(const std::string& run) {
    return read_file(folder_ / run / "model.safetensors");
  }

  test::TemporaryFolder folder_;
};

TEST_F(ServerRun, InStepEndsInTheBitsOfAnAllReduce) {
  ASSERT_EQ(train("plain", 1, 60, {}).exit_code, 0);
  for (const int ranks : {1, 2, 3, 4}) {
    const std::string run = "servers" + std::to_string(ranks);
    const Ended ended = train(run, ranks, 60,
                              {"parallelism.strategy=parameter_server",
                               "communication.server_shards=2", "training.clip_norm=1.0"});
    ASSERT_EQ(ended.exit_code, 0) << ended.err;
    ASSERT_EQ(
        train("clipped" + std::to_string(ranks), ranks, 60, {"training.clip_norm=1.0"}).exit_code,
        0);
    EXPECT_TRUE(model_of(run) == model_of("clipped" + std::to_string(ranks))) << ranks;
  }
}

TEST_F(ServerRun, LearnsInEveryMode) {
  for (const Words& mode : {kAsynchronous, kBounded, kBackup}) {
    for (const int ranks : {2, 3}) {
      const std::string run = mode.back().substr(mode.back().find('=') + 1) + std::to_string(ranks);
      const Ended ended = train(run, ranks, 400, mode);
      ASSERT_EQ(ended.exit_code, 0) << ended.err;
      EXPECT_GT(r2_of(ended), 0.95) << run << ended.out;
    }
  }
}

TEST_F(ServerRun, LearnsThroughACodec) {
  for (const std::string codec : {"int8", "sign", "power_sgd"}) {
    const Ended ended = train(
        codec, 3, 400, {"communication.mode=asynchronous", "communication.compression=" + codec});
    ASSERT_EQ(ended.exit_code, 0) << ended.err;
    EXPECT_GT(r2_of(ended), 0.9) << codec;
  }
}

TEST_F(ServerRun, GoesOnWithWhatItsCodecHasLeftOut) {
  // One worker, so that a run is the same each time.
  for (const std::string codec : {"top_k", "int8"}) {
    for (const int ranks : {1, 2}) {
      const std::string run = codec + std::to_string(ranks);
      Words words = {"communication.mode=asynchronous", "communication.group_size=2",
                     "communication.compression=" + codec, "checkpoint.every_steps=30",
                     "checkpoint.keep=10"};
      if (codec == "top_k") words.push_back("communication.compression_ratio=0.2");
      const Ended whole = train(run, ranks, 60, words);
      ASSERT_EQ(whole.exit_code, 0) << whole.err;
      const std::string expected = model_of(run);
      const std::filesystem::path checkpoints = folder_ / run / "checkpoints";
      const auto go_on = [&] {
        std::filesystem::remove_all(checkpoints / "step-60");
        std::filesystem::remove_all(checkpoints / "rank-0/step-60");
        const Ended ended = run_program(folder_.path(), {"train", "--resume", run});
        ASSERT_EQ(ended.exit_code, 0) << ended.err;
      };
      go_on();
      EXPECT_TRUE(model_of(run) == expected) << run;
      std::filesystem::remove_all(checkpoints / "rank-0");
      go_on();
      EXPECT_FALSE(model_of(run) == expected) << run << ": nothing was left out";
    }
  }
}

TEST_F(ServerRun, GoesOnWithoutAKilledRank) {
  for (const Words& mode : {kAsynchronous, kBounded, kBackup}) {
    const std::string run = "killed-" + mode.back().substr(mode.back().find('=') + 1);
    Program program(folder_.path(), words(run, 3, 4000, mode));
    program.wait_for(folder_ / run / "metrics.jsonl", "\"evaluation\"");
    const auto ranks = test::children_of(program.pid());
    ASSERT_EQ(ranks.size(), 3U);
    ::kill(ranks.back(), SIGKILL);
    const Ended ended = program.wait();
    EXPECT_EQ(ended.exit_code, 0) << ended.err;
    EXPECT_THAT(ended.err, HasSubstr("rank 2 was killed by SIGKILL"));
    EXPECT_THAT(ended.err, HasSubstr("the others have gone on without it"));
    EXPECT_GT(r2_of(ended), 0.95) << run;
  }
}

TEST_F(ServerRun, InStepNamesAKilledRank) {
  Program program(folder_.path(),
                  words("step", 3, 4000, {"parallelism.strategy=parameter_server"}));
  program.wait_for(folder_ / "step" / "metrics.jsonl", "\"evaluation\"");
  const auto ranks = test::children_of(program.pid());
  ASSERT_EQ(ranks.size(), 3U);
  ::kill(ranks.back(), SIGKILL);
  const Ended ended = program.wait();
  EXPECT_EQ(ended.exit_code, 128 + SIGKILL);
  EXPECT_THAT(ended.err, HasSubstr("rank 2"));
}

TEST_F(ServerRun, ChangesItsModeAtACheckpoint) {
  Program program(folder_.path(), words("run", 3, 4000, kAsynchronous));
  program.wait_for(folder_ / "run" / "metrics.jsonl", "\"evaluation\"");
  ::kill(program.pid(), SIGINT);
  const Ended stopped = program.wait();
  EXPECT_EQ(stopped.exit_code, 130) << stopped.err;
  const auto resume = [&](const std::string& steps, const Words& mode) {
    Words all = {"train", "--resume", "run", "--json", "training.steps=" + steps};
    all.insert(all.end(), mode.begin(), mode.end());
    return run_program(folder_.path(), all);
  };
  // The optimizer's state goes along: steps are counted on.
  const Ended synchronous = resume("4100", {"communication.mode=synchronous"});
  ASSERT_EQ(synchronous.exit_code, 0) << synchronous.err;
  const Ended bounded = resume("4200", kBounded);
  ASSERT_EQ(bounded.exit_code, 0) << bounded.err;
  const Ended in_step =
      resume("4300", {"communication.mode=synchronous", "parallelism.strategy=parameter_server"});
  ASSERT_EQ(in_step.exit_code, 0) << in_step.err;
  EXPECT_GT(r2_of(in_step), 0.95);
}

TEST_F(ServerRun, ThatIsResumedInStepHasTheBitsOfOneThatWasNotStopped) {
  const Words in_step = {"parallelism.strategy=parameter_server", "checkpoint.every_steps=30",
                         "checkpoint.keep=10"};
  ASSERT_EQ(train("whole", 3, 60, in_step).exit_code, 0);
  ASSERT_EQ(train("part", 3, 60, in_step).exit_code, 0);
  std::filesystem::remove_all(folder_ / "part" / "checkpoints" / "step-60");
  std::filesystem::remove(folder_ / "part" / "model.safetensors");
  const Ended ended = run_program(folder_.path(), {"train", "--resume", "part"});
  ASSERT_EQ(ended.exit_code, 0) << ended.err;
  EXPECT_TRUE(model_of("part") == model_of("whole"));
}

TEST_F(ServerRun, AsOneGroupOfAllRanksEndsInTheBitsOfAnAllReduce) {
  const Words clip = {"training.clip_norm=1.0"};
  ASSERT_EQ(train("plain", 1, 60, clip).exit_code, 0);
  for (const int ranks : {2, 3, 4}) {
    for (const Words& mode : {kAsynchronous, kBounded}) {
      for (const std::string size : {"0", "4"}) {
        const std::string run = fmt::format("{}-{}-{}", ranks, mode.size(), size);
        const Ended ended =
            train(run, ranks, 60, mode + clip + Words{"communication.group_size=" + size});
        ASSERT_EQ(ended.exit_code, 0) << ended.err;
        EXPECT_TRUE(model_of(run) == model_of("plain")) << run;
      }
    }
  }
}

TEST_F(ServerRun, LearnsInGroupsInEveryMode) {
  for (const Words& mode : {kAsynchronous, kBounded, kBackup}) {
    for (const int ranks : {3, 4}) {
      const std::string run = mode.back().substr(mode.back().find('=') + 1) + std::to_string(ranks);
      const Ended ended = train(run, ranks, 400, mode + kInPairs);
      ASSERT_EQ(ended.exit_code, 0) << ended.err;
      EXPECT_GT(r2_of(ended), 0.95) << run << ended.out;
    }
  }
  const Ended coded =
      train("int8", 4, 400, kAsynchronous + kInPairs + Words{"communication.compression=int8"});
  ASSERT_EQ(coded.exit_code, 0) << coded.err;
  EXPECT_GT(r2_of(coded), 0.9);
}

TEST_F(ServerRun, InGroupsStopsAndGoesOnFromItsCheckpoint) {
  Program program(
      folder_.path(),
      words("run", 4, 400'000, kAsynchronous + kInPairs + Words{"checkpoint.every_steps=50"}));
  program.wait_for(folder_ / "run" / "metrics.jsonl", "\"evaluation\"");
  ::kill(program.pid(), SIGINT);
  const Ended stopped = program.wait();
  EXPECT_EQ(stopped.exit_code, 130) << stopped.err;
  const auto newest = latest_checkpoint(folder_ / "run" / "checkpoints");
  ASSERT_TRUE(newest);
  const int at = std::stoi(newest->filename().string().substr(5));
  // In groups again, then each rank alone.
  for (const auto& [steps, size] : {std::pair(at + 60, "2"), std::pair(at + 120, "1")}) {
    const Ended ended =
        run_program(folder_.path(), {"train", "--resume", "run", "-n", "4", "--json",
                                     fmt::format("training.steps={}", steps),
                                     fmt::format("communication.group_size={}", size)});
    ASSERT_EQ(ended.exit_code, 0) << ended.err;
    EXPECT_GT(r2_of(ended), 0.95);
    EXPECT_EQ(nlohmann::json::parse(ended.out).value("steps", 0), steps);
  }
}

// The first rank of a group talks with the servers, the second does not.
TEST_F(ServerRun, GoesOnWithoutTheGroupOfAKilledRank) {
  for (const Words& mode : {kAsynchronous, kBounded, kBackup}) {
    for (const std::size_t victim : {2, 3}) {
      const std::string run =
          fmt::format("{}-{}", mode.back().substr(mode.back().find('=') + 1), victim);
      Program program(folder_.path(), words(run, 4, 3000, mode + kInPairs));
      program.wait_for(folder_ / run / "metrics.jsonl", "\"evaluation\"");
      const auto ranks = test::children_of(program.pid());
      ASSERT_EQ(ranks.size(), 4U);
      ::kill(ranks[victim], SIGKILL);
      const Ended ended = program.wait();
      EXPECT_EQ(ended.exit_code, 0) << ended.err;
      EXPECT_THAT(ended.err, HasSubstr(fmt::format("rank {} was killed by SIGKILL", victim)));
      EXPECT_THAT(ended.err,
                  HasSubstr(fmt::format("rank {} has ended with a rank of its group", 5 - victim)));
      EXPECT_GT(r2_of(ended), 0.95) << run;
    }
  }
}

TEST_F(ServerRun, EndsWithAKilledRankOfTheFirstGroup) {
  Program program(folder_.path(), words("run", 4, 400'000, kAsynchronous + kInPairs));
  program.wait_for(folder_ / "run" / "metrics.jsonl", "\"evaluation\"");
  const auto ranks = test::children_of(program.pid());
  ASSERT_EQ(ranks.size(), 4U);
  ::kill(ranks[1], SIGKILL);
  const Ended ended = program.wait();
  EXPECT_EQ(ended.exit_code, 128 + SIGKILL);
  EXPECT_THAT(ended.err, HasSubstr("rank 1"));
}

TEST_F(ServerRun, InGroupsEndsWithTheErrorOfTheGroupThatDiverged) {
  // The last row is rank 3's, and its square is no f32.
  std::string table = "x,y\n";
  for (int row = 0; row < 63; ++row) table += fmt::format("{},{}\n", row % 7, row % 7);
  write_file_atomically(folder_ / "table.csv", table + "1e30,1\n");
  const Ended ended = run_program(
      folder_.path(), kTrain + kAsynchronous + kInPairs +
                          Words{"-n", "4", "data.format=csv", "data.path=table.csv",
                                "data.target=y", "data.sampler=block", "training.global_batch=16",
                                "training.steps=100", "communication.timeout=20"});
  EXPECT_EQ(ended.exit_code, 5) << ended.err;
  EXPECT_THAT(ended.err, HasSubstr("training diverged"));
}

TEST_F(ServerRun, SaysWhatDoesNotGoTogether) {
  const auto error = [&](const Words& more) { return train("bad", 2, 10, more).err; };
  EXPECT_THAT(
      error({"communication.mode=asynchronous", "parallelism.strategy=host_shared"}),
      HasSubstr("parallelism.strategy = \"host_shared\" does not go with communication.mode = "
                "\"asynchronous\""));
  EXPECT_THAT(error({"communication.mode=hybrid", "communication.hybrid=backup_workers",
                     "communication.backup_workers=2"}),
              HasSubstr("communication.backup_workers must be less than the 2 ranks, got 2"));
  EXPECT_THAT(error({"parallelism.strategy=parameter_server", "communication.compression=int8"}),
              HasSubstr("communication.compression"));
  EXPECT_THAT(error({"parallelism.strategy=parameter_server", "communication.group_size=2"}),
              HasSubstr("communication.group_size = 2 is not used with communication.mode = "));
  EXPECT_THAT(error(kBackup + kInPairs), HasSubstr("must be less than the 1 groups, got 1"));
  EXPECT_THAT(error(kBackup + Words{"communication.group_size=0"}),
              HasSubstr("one of the 1 workers to be waited for, got 1"));
}

}  // namespace
}  // namespace trireme
