// After which steps a run evaluates, saves a checkpoint and writes metrics, and what it writes.

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "tests/train/runs.h"
#include "tests/train/samples.h"
#include "trireme/base/files.h"
#include "trireme/train/run_directory.h"
#include "trireme/train/sealed_text.h"

namespace trireme::test {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

std::vector<std::int64_t> evaluated(const Outcome& outcome) {
  std::vector<std::int64_t> steps;
  for (const EvaluationReport& report : outcome.ranks.front().evaluations) {
    steps.push_back(report.step);
  }
  return steps;
}

class Due : public testing::Test {
 protected:
  // The steps of the lines of metrics.jsonl that are of steps, or of evaluations.
  std::vector<std::int64_t> logged(const std::string& run, bool evaluations) const {
    std::vector<std::int64_t> steps;
    for (const std::string& line : runs_.metrics(run)) {
      const auto object = nlohmann::json::parse(line);
      if (object.contains("evaluation") == evaluations) steps.push_back(object["step"]);
    }
    return steps;
  }

  Runs runs_;  // 8 steps an epoch
};

TEST_F(Due, EvaluationsComeEverySoManyStepsAndAtTheEnd) {
  const Outcome outcome = runs_.train("run", 3, {"evaluation.every_steps=7", "training.steps=20"});
  EXPECT_THAT(evaluated(outcome), ElementsAre(7, 14, 20));
  EXPECT_THAT(logged("run", true), ElementsAre(7, 14, 20));
  EXPECT_EQ(outcome.summaries.back().evaluation->step, 20);
}

TEST_F(Due, EvaluationsComeEverySoManyEpochsAndAtTheEnd) {
  EXPECT_THAT(evaluated(runs_.train("each", 2, {"training.steps=20"})), ElementsAre(8, 16, 20));
  EXPECT_THAT(evaluated(runs_.train("second", 2, {"evaluation.every_epochs=2"})),
              ElementsAre(16, 32, 40));
  EXPECT_THAT(evaluated(runs_.train("none", 2, {"evaluation.every_epochs=0"})), ElementsAre(40));
  EXPECT_THAT(evaluated(runs_.train("without", 2, {"data.holdout=0"})), IsEmpty());
}

TEST_F(Due, CheckpointsComeEverySoManyStepsAndAtTheEnd) {
  const Outcome outcome = runs_.train(
      "run", 3, {"checkpoint.every_steps=6", "checkpoint.keep=100", "training.steps=20"});
  EXPECT_THAT(runs_.checkpoints("run"), ElementsAre(6, 12, 18, 20));
  EXPECT_EQ(outcome.ranks.back().checkpoints.size(), 4u);
  EXPECT_EQ(outcome.ranks.front().checkpoints.front(), runs_ / "run" / "checkpoints/step-6");
  runs_.train("last", 3);
  EXPECT_THAT(runs_.checkpoints("last"), ElementsAre(40));
}

TEST_F(Due, OnlyTheNewestCheckpointsAreKept) {
  const Words words = {"checkpoint.every_steps=6", "training.steps=20"};
  runs_.train("two", 2, words);
  EXPECT_THAT(runs_.checkpoints("two"), ElementsAre(18, 20));
  runs_.train("three", 2, words + Words{"checkpoint.keep=3"});
  EXPECT_THAT(runs_.checkpoints("three"), ElementsAre(12, 18, 20));
}

// Of what observers were told: the newest and those with the lowest losses.
std::set<std::int64_t> newest_and_best(const std::vector<EvaluationReport>& reports,
                                       std::size_t best) {
  std::vector<std::pair<double, std::int64_t>> ranking;
  for (const EvaluationReport& report : reports) ranking.emplace_back(report.loss, report.step);
  std::ranges::sort(ranking);
  std::set<std::int64_t> steps = {reports.back().step};
  for (std::size_t i = 0; i < best; ++i) steps.insert(ranking[i].second);
  return steps;
}

TEST_F(Due, TheBestCheckpointsAreEvaluatedAndKept) {
  // The rate is so large that the loss goes up and down.
  const Words words = {"checkpoint.every_steps=4", "checkpoint.keep=1", "checkpoint.keep_best=2",
                       "evaluation.every_epochs=0", "optimizer.lr=1.5"};
  const Outcome whole = runs_.train("whole", 3, words);
  const auto& reports = whole.ranks.front().evaluations;
  ASSERT_EQ(reports.size(), 10u);
  const std::set<std::int64_t> wanted = newest_and_best(reports, 2);
  EXPECT_LT(*wanted.begin(), 36) << "the best are not the newest";
  EXPECT_EQ(runs_.checkpoints("whole"), wanted);

  runs_.train("cut", 3, words, {.rank = 0, .step = 22});
  runs_.resume("cut", 2, words);
  EXPECT_EQ(runs_.checkpoints("cut"), wanted);
}

TEST_F(Due, CheckpointsAreKeptForEver) {
  runs_.train("run", 2, {"checkpoint.every_steps=3", "checkpoint.keep_every=10"});
  EXPECT_THAT(runs_.checkpoints("run"), ElementsAre(12, 21, 30, 39, 40));
}

TEST_F(Due, TheBestAreOfAMetricThatEvaluationsReport) {
  const Words words = {"checkpoint.every_steps=4", "checkpoint.keep_best=1"};
  for (const std::string& error : runs_.errors("none", 2, words + Words{"data.holdout=0"})) {
    EXPECT_THAT(error, HasSubstr("checkpoint.keep_best = 1 needs samples to evaluate on"));
  }
  for (const std::string& error :
       runs_.errors("wrong", 2, words + Words{"evaluation.metric=accuracy"})) {
    EXPECT_THAT(error, HasSubstr("must be one that evaluations of this data report, loss, r2, got "
                                 "\"accuracy\""));
  }
  EXPECT_FALSE(std::filesystem::exists(runs_ / "wrong"));
}

TEST_F(Due, MetricsComeEverySoManyStepsAndAtTheEnd) {
  const Outcome outcome =
      runs_.train("run", 3, {"metrics.every_steps=6", "training.steps=20", "data.holdout=0"});
  EXPECT_THAT(logged("run", false), ElementsAre(6, 12, 18, 20));
  EXPECT_EQ(outcome.ranks.back().steps.size(), 20u) << "observers are told of every step";
  for (const StepReport& step : outcome.ranks.back().steps) {
    EXPECT_EQ(step.gradient_norm.has_value(), step.step % 6 == 0 || step.step == 20) << step.step;
  }
}

TEST_F(Due, MetricsHoldWhatObserversAreTold) {
  const Outcome outcome = runs_.train("run", 3, {"training.steps=8"});
  const Recorder& told = outcome.ranks.front();
  const std::vector<std::string> lines = runs_.metrics("run");
  ASSERT_EQ(lines.size(), 9u);
  for (std::size_t i = 0; i < 8; ++i) {
    const auto line = nlohmann::json::parse(lines[i]);
    EXPECT_EQ(line["step"], told.steps[i].step);
    EXPECT_EQ(line["epoch"], told.steps[i].epoch);
    EXPECT_EQ(line["loss"], told.steps[i].loss);
    EXPECT_EQ(line["lr"], told.steps[i].lr);
    EXPECT_EQ(line["gradient_norm"], *told.steps[i].gradient_norm);
    EXPECT_EQ(line["bytes_sent"], told.steps[i].traffic.sent);
    EXPECT_GE(line["compute_seconds"], 0);
  }
  const auto evaluation = nlohmann::json::parse(lines[8])["evaluation"];
  EXPECT_EQ(evaluation["samples"], 20);
  EXPECT_EQ(evaluation["loss"], told.evaluations.front().loss);
  EXPECT_EQ(evaluation["r2"], *told.evaluations.front().r2);
}

TEST_F(Due, AnEvaluationIsOfTheWholeSetAndTheModelOfItsStep) {
  write_table(runs_ / "train.csv", 60);
  write_table(runs_ / "test.csv", 37);
  for (const int ranks : {1, 3, 4}) {
    const Outcome outcome =
        runs_.train("run", ranks,
                    {"data.format=csv", "data.path=" + (runs_ / "train.csv").string(),
                     "data.test_path=" + (runs_ / "test.csv").string(), "data.target=y",
                     "data.holdout=0", "training.precision=f64", "evaluation.batch=2"});
    const auto tensors = runs_.tensors("run");
    double error = 0, sum = 0, squares = 0;
    for (int row = 0; row < 37; ++row) {
      const auto number = [row](int factor) { return (row * factor % 11 - 5) / 4.0; };
      const double y = number(2) + row % 3;
      const at::Tensor weight = tensors.at("weight");
      const double predicted =
          weight[0][0].item<double>() * number(3) + weight[0][1].item<double>() * number(5) +
          weight[0][2].item<double>() * number(7) + tensors.at("bias").item<double>();
      error += (predicted - y) * (predicted - y);
      sum += y;
      squares += y * y;
    }
    const EvaluationReport& report = *outcome.summaries.back().evaluation;
    EXPECT_EQ(report.samples, 37);
    EXPECT_NEAR(report.loss, error / 37, 1e-12);
    EXPECT_NEAR(*report.r2, 1 - error / (squares - sum * sum / 37), 1e-12);
    EXPECT_FALSE(report.accuracy);
  }
}

// Between two synchronizations ranks have different parameters: what is due waits.
TEST_F(Due, EvaluationsAndCheckpointsOfLocalStepsWaitForASynchronization) {
  const Words words = {"evaluation.every_steps=10", "checkpoint.every_steps=10",
                       "checkpoint.keep=100"};
  EXPECT_THAT(evaluated(runs_.train("diloco", 3, words + diloco())), ElementsAre(16, 24, 32, 40));
  EXPECT_THAT(runs_.checkpoints("diloco"), ElementsAre(16, 24, 32, 40));
  // Streaming ranks never have the same parameters unless they are asked to.
  EXPECT_THAT(evaluated(runs_.train("streaming", 3, words + streaming_diloco())),
              ElementsAre(10, 20, 30, 40));
  EXPECT_THAT(runs_.checkpoints("streaming"), ElementsAre(10, 20, 30, 40));
}

TEST_F(Due, TheConfigurationIsWrittenWithEveryKey) {
  runs_.train("run", 2, {"optimizer.betas=[0.8, 0.99]"});
  const Config expected = runs_.config("run", {"optimizer.betas=[0.8, 0.99]"});
  EXPECT_EQ(read_file(runs_ / "run" / "config.toml"),
            sealed(std::string(kRunConfigHeader) + to_toml(expected)));
}

}  // namespace
}  // namespace trireme::test
