// Runs whose parameters, gradients and optimizer state are divided between ranks.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/train/runs.h"
#include "trireme/base/error.h"

namespace trireme::test {
namespace {

using testing::AllOf;
using testing::Each;
using testing::HasSubstr;
using testing::ThrowsMessage;

Words shard(int stage) {
  return {fmt::format("parallelism.shard={}", stage)};
}

// A perceptron whose weights are cut, on a data set that no number of ranks divides; 5 virtual
// workers, so that ranks have different numbers of passes, in training and in evaluation.
class ShardedRuns : public testing::Test {
 protected:
  Runs runs_{{"data.samples=203", "data.holdout=0.2", "data.features_count=90", "model.name=mlp",
              "model.hidden=[120,70]", "model.dropout=0.2", "optimizer.name=adamw",
              "training.steps=9", "training.global_batch=25", "training.virtual_workers=5",
              "training.clip_norm=0.3", "evaluation.batch=7", "evaluation.every_steps=4",
              "checkpoint.every_steps=3", "checkpoint.keep=100"}};
};

std::vector<double> losses_of(const Outcome& outcome) {
  std::vector<double> losses;
  for (const StepReport& step : outcome.ranks.front().steps) losses.push_back(step.loss);
  for (const EvaluationReport& report : outcome.ranks.front().evaluations) {
    losses.push_back(report.loss);
  }
  return losses;
}

TEST_F(ShardedRuns, HaveTheBitsOfAReplicatedRunAndResumeOnAnyOtherStage) {
  const Outcome whole = runs_.train("whole", 1);
  ASSERT_EQ(losses_of(whole).size(), 9U + 3U);
  for (const bool hosts : {false, true}) {
    for (const int stage : {1, 2, 3}) {
      runs_.set_ranks_a_host(hosts ? 1 : 0);
      const std::string run = fmt::format("stage-{}{}", stage, hosts ? "-hosts" : "");
      const Outcome outcome = runs_.train(run, 3, shard(stage));
      EXPECT_EQ(losses_of(outcome), losses_of(whole)) << run;
      EXPECT_EQ(runs_.model(run), runs_.model("whole")) << run;
      for (const int other : {0, 1, 2, 3}) {
        const int ranks = other + 1;
        runs_.set_ranks_a_host(hosts ? 0 : 1);
        runs_.copy_until(run, "resumed", 6);
        runs_.resume("resumed", ranks, shard(other));
        EXPECT_EQ(runs_.model("resumed"), runs_.model("whole"))
            << run << ", then stage " << other << " on " << ranks << " ranks";
      }
    }
  }
}

TEST_F(ShardedRuns, AreTriedWithoutRanksByADryRun) {
  EXPECT_NO_THROW(dry_run(runs_.config("dry", shard(3)), 3));
}

TEST_F(ShardedRuns, BeginWithTheWeightsOfAFile) {
  runs_.train("first", 1, {"training.steps=2"});
  const std::string file = (runs_ / "first" / "model.safetensors").string();
  const Words words{"training.steps=2", "model.weights=" + file, "training.precision=f64"};
  runs_.train("whole", 1, words);
  for (const int ranks_a_host : {0, 1}) {
    runs_.set_ranks_a_host(ranks_a_host);
    Words sharded = words;
    sharded.push_back("parallelism.shard=3");
    runs_.train("sharded", 3, sharded);
    EXPECT_EQ(runs_.model("sharded"), runs_.model("whole")) << ranks_a_host;
  }
}

// Hosts of two ranks and of one, which cut parameters differently.
TEST_F(ShardedRuns, WithinHostsHaveTheSameBitsAndResume) {
  runs_.train("whole", 1);
  const Words within = {"parallelism.shard_within=host"};
  for (const int stage : {1, 2, 3}) {
    runs_.set_ranks_a_host(2);
    runs_.train("within", 3, shard(stage) + within);
    EXPECT_EQ(runs_.model("within"), runs_.model("whole")) << stage;
    runs_.copy_until("within", "resumed", 6);
    runs_.resume("resumed", 5, shard(stage) + within);
    EXPECT_EQ(runs_.model("resumed"), runs_.model("whole")) << stage;
    runs_.set_ranks_a_host(1);
    runs_.copy_until("within", "resumed", 6);
    runs_.resume("resumed", 2, shard(4 - stage));
    EXPECT_EQ(runs_.model("resumed"), runs_.model("whole")) << stage;
  }
}

TEST_F(ShardedRuns, HaveTheSameBitsInMixedPrecision) {
  for (const Words& precision :
       {Words{"training.precision=bf16"}, Words{"training.precision=f16"},
        Words{"training.precision=bf16", "training.stochastic_rounding=true"},
        Words{"training.precision=f64", "parallelism.recompute=full"}}) {
    runs_.set_ranks_a_host(0);
    runs_.train("whole", 1, precision);
    for (const bool hosts : {false, true}) {
      for (const int stage : {2, 3}) {
        runs_.set_ranks_a_host(hosts ? 1 : 0);
        runs_.train("sharded", 2, precision + shard(stage));
        EXPECT_EQ(runs_.model("sharded"), runs_.model("whole")) << precision.front() << stage;
      }
    }
  }
}

TEST_F(ShardedRuns, WriteAModelOfSeveralFilesPartByPart) {
  const Words words = {"checkpoint.model_file_bytes=30000"};
  runs_.train("whole", 1, words);
  runs_.set_ranks_a_host(1);
  runs_.train("sharded", 4, words + shard(3));
  int files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(runs_ / "sharded")) {
    const std::string name = entry.path().filename().string();
    if (!name.starts_with("model")) continue;
    ++files;
    EXPECT_EQ(read_file(entry.path()), read_file(runs_ / "whole" / name)) << name;
  }
  EXPECT_GT(files, 2);
}

TEST_F(ShardedRuns, SkipStepsThatAreNotFiniteAndNameTheParameterOfOthers) {
  const Words diverging = {"optimizer.name=sgd", "optimizer.lr=1e30", "training.clip_norm=0"};
  for (const bool hosts : {false, true}) {
    for (const int stage : {1, 2, 3}) {
      runs_.set_ranks_a_host(hosts ? 1 : 0);
      EXPECT_THAT(runs_.errors("diverged", 3, diverging + shard(stage)),
                  Each(AllOf(HasSubstr("diverged"), HasSubstr("step"))))
          << stage;
    }
  }
}

TEST_F(ShardedRuns, TrainByOptimizersOfWholeParameters) {
  for (const char* name : {"lamb", "muon"}) {
    const Words optimizer = {fmt::format("optimizer.name={}", name)};
    runs_.set_ranks_a_host(0);
    runs_.train("whole", 1, optimizer);
    for (const bool hosts : {false, true}) {
      runs_.set_ranks_a_host(hosts ? 1 : 0);
      runs_.train("sharded", 3, optimizer + shard(3));
      EXPECT_EQ(runs_.model("sharded"), runs_.model("whole")) << name;
    }
  }
}

}  // namespace
}  // namespace trireme::test
