// The numbers that a run computes, held against a plain loop on libtorch, on 1 to 4 ranks.

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "tests/train/plain_loop.h"
#include "tests/train/runs.h"
#include "tests/train/samples.h"

namespace trireme::test {
namespace {

using testing::DoubleNear;
using testing::ElementsAre;
using testing::Pointwise;

// In these tests virtual workers, batches and learning rates are powers of two: dividing by them is
// exact, so that a plain loop has the same bits whatever the order of divisions.
constexpr int kWorkers = 4;
constexpr int kRows = 64;
constexpr int kBatch = 16;
constexpr double kLr = 0.125;

struct Table {
  at::Tensor x;
  at::Tensor y;
};

// What write_table() writes.
Table table(int rows, at::ScalarType type) {
  Table table{at::empty({rows, 3}, type), at::empty({rows, 1}, type)};
  for (int row = 0; row < rows; ++row) {
    const int factors[] = {3, 5, 7};
    for (int j = 0; j < 3; ++j) table.x[row][j] = (row * factors[j] % 11 - 5) / 4.0;
    table.y[row][0] = (row * 2 % 11 - 5) / 4.0 + row % 3;
  }
  return table;
}

at::Tensor linear(const std::vector<at::Tensor>& parameters, const at::Tensor& x) {
  return at::linear(x, parameters[0], parameters[1]);
}

// Parameters: a hidden layer's weight and bias, then the output's.
at::Tensor perceptron(const std::vector<at::Tensor>& parameters, const at::Tensor& x) {
  const at::Tensor hidden = at::tanh(at::linear(x, parameters[0], parameters[1]));
  return at::linear(hidden, parameters[2], parameters[3]);
}

class TrainingLoop : public testing::Test {
 protected:
  TrainingLoop() { write_table(runs_ / "table.csv", kRows); }

  // Learns the table in its order.
  Words on_table(const Words& more = {}) const {
    return Words{"data.format=csv",
                 "data.path=" + (runs_ / "table.csv").string(),
                 "data.target=y",
                 "data.sampler=sequential",
                 "data.holdout=0",
                 "training.steps=12",
                 fmt::format("training.global_batch={}", kBatch),
                 fmt::format("training.virtual_workers={}", kWorkers),
                 "optimizer.name=sgd",
                 fmt::format("optimizer.lr={}", kLr),
                 "model.init=zero"} +
           more;
  }

  static PlainLoop plain_loop(const Table& table) {
    return {.x = table.x,
            .y = table.y,
            .batch = kBatch,
            .virtual_workers = kWorkers,
            .steps = 12,
            .lr = kLr,
            .forward = linear};
  }

  static std::vector<at::Tensor> zero_parameters(at::ScalarType type) {
    return {at::zeros({1, 3}, type), at::zeros({1}, type)};
  }

  // The tensor of a shape that only one has.
  at::Tensor trained(const std::string& run, at::IntArrayRef shape) const {
    for (const auto& [name, tensor] : runs_.tensors(run)) {
      if (tensor.sizes() == shape) return tensor;
    }
    throw std::runtime_error("no tensor of that shape");
  }

  static std::vector<double> losses(const Recorder& rank) {
    std::vector<double> losses;
    for (const StepReport& step : rank.steps) losses.push_back(step.loss);
    return losses;
  }

  void expect_near(const std::string& run, const std::vector<at::Tensor>& parameters) const {
    for (const at::Tensor& parameter : parameters) {
      EXPECT_TRUE(at::allclose(trained(run, parameter.sizes()), parameter.detach(), 1e-12, 1e-13))
          << run;
    }
  }

  Runs runs_;
};

TEST_F(TrainingLoop, HasTheBitsOfAPlainLoop) {
  std::vector<at::Tensor> expected = zero_parameters(at::kFloat);
  PlainLoop loop = plain_loop(table(kRows, at::kFloat));
  loop.momentum = 0.5;
  const std::vector<double> losses_of_loop = loop.train(expected);
  for (const std::string& name :
       {std::string("replicated"), std::string(kHostShared), std::string(kParameterServer)}) {
    for (const int ranks : {1, 2, 3, 4}) {
      const std::string run = fmt::format("{}-{}", name, ranks);
      const Outcome outcome =
          runs_.train(run, ranks, on_table(strategy(name) + Words{"optimizer.momentum=0.5"}));
      EXPECT_TRUE(at::equal(trained(run, {1, 3}), expected[0])) << run;
      EXPECT_TRUE(at::equal(trained(run, {1}), expected[1])) << run;
      for (const Recorder& rank : outcome.ranks) {
        EXPECT_THAT(losses(rank), Pointwise(DoubleNear(1e-5), losses_of_loop)) << run;
      }
    }
  }
}

TEST_F(TrainingLoop, TrainsAPerceptronWithTheBitsOfAPlainLoop) {
  const Words words = {"model.name=mlp", "model.hidden=[5]", "model.activation=tanh",
                       "model.init=xavier_uniform"};
  // Both start from the state after one step, which the plain loop cannot compute.
  const auto parameters_of = [&](const std::string& run) {
    return std::vector<at::Tensor>{trained(run, {5, 3}), trained(run, {5}), trained(run, {1, 5}),
                                   trained(run, {1})};
  };
  runs_.train("start", 1, on_table(words + Words{"training.steps=4"}));
  std::vector<at::Tensor> expected = parameters_of("start");
  PlainLoop loop = plain_loop(table(kRows, at::kFloat));
  loop.steps = 8;
  loop.forward = perceptron;
  loop.train(expected);
  for (const int ranks : {1, 2, 3, 4}) {
    const std::string run = fmt::format("on-{}", ranks);
    runs_.train(run, ranks, on_table(words));
    const std::vector<at::Tensor> parameters = parameters_of(run);
    for (std::size_t p = 0; p < parameters.size(); ++p) {
      EXPECT_TRUE(at::equal(parameters[p], expected[p])) << run << ", parameter " << p;
    }
  }
}

TEST_F(TrainingLoop, WeighsSamplesAlikeInALastBatchThatIsNotFull) {
  // The last step of each epoch has 2 samples, of virtual workers 0 and 1 alone.
  write_table(runs_ / "table.csv", 50);
  std::vector<at::Tensor> expected = zero_parameters(at::kDouble);
  const std::vector<double> losses_of_loop = plain_loop(table(50, at::kDouble)).train(expected);
  for (const int ranks : {1, 2, 3, 4}) {
    const std::string run = fmt::format("on-{}", ranks);
    const Outcome outcome = runs_.train(run, ranks, on_table({"training.precision=f64"}));
    expect_near(run, expected);
    EXPECT_THAT(losses(outcome.ranks.back()), Pointwise(DoubleNear(1e-12), losses_of_loop));
    EXPECT_EQ(outcome.ranks.back().start.steps_per_epoch, 4);
  }
}

TEST_F(TrainingLoop, TakesAllSamplesWhereABatchHoldsMore) {
  write_table(runs_ / "table.csv", 5);
  std::vector<at::Tensor> expected = zero_parameters(at::kDouble);
  plain_loop(table(5, at::kDouble)).train(expected);
  for (const int ranks : {1, 3, 4}) {
    const std::string run = fmt::format("on-{}", ranks);
    runs_.train(run, ranks, on_table({"training.precision=f64"}));
    expect_near(run, expected);
  }
}

TEST_F(TrainingLoop, ClipsTheNormOfTheWholeGradient) {
  std::vector<at::Tensor> expected = zero_parameters(at::kDouble);
  PlainLoop loop = plain_loop(table(kRows, at::kDouble));
  loop.clip_norm = 0.75;
  loop.train(expected);
  std::vector<at::Tensor> not_clipped = zero_parameters(at::kDouble);
  plain_loop(table(kRows, at::kDouble)).train(not_clipped);
  ASSERT_FALSE(at::allclose(expected[0], not_clipped[0]));
  for (const std::string& name :
       {std::string("replicated"), std::string(kHostShared), std::string(kParameterServer)}) {
    const std::string run = name + "-clipped";
    runs_.train(
        run, 3,
        on_table(strategy(name) + Words{"training.precision=f64", "training.clip_norm=0.75"}));
    expect_near(run, expected);
  }
}

TEST_F(TrainingLoop, ReportsTheSameOnEveryRank) {
  const Outcome outcome = runs_.train("run", 3,
                                      {"lr_scheduler.name=step", "lr_scheduler.step_size=10",
                                       "optimizer.lr=0.5", "lr_scheduler.gamma=0.5"});
  const Recorder& first = outcome.ranks.front();
  ASSERT_EQ(first.steps.size(), 40u);
  for (const Recorder& rank : outcome.ranks) {
    for (std::size_t i = 0; i < 40; ++i) {
      const StepReport& step = rank.steps.at(i);
      EXPECT_EQ(step.step, static_cast<std::int64_t>(i) + 1);
      EXPECT_DOUBLE_EQ(step.epoch, (static_cast<double>(i) + 1) / 8);  // 180 samples, 24 a step
      EXPECT_EQ(step.loss, first.steps[i].loss);
      EXPECT_EQ(step.gradient_norm, first.steps[i].gradient_norm);
      EXPECT_DOUBLE_EQ(step.lr, 0.5 / static_cast<double>(1 << i / 10));
    }
    ASSERT_EQ(rank.evaluations.size(), first.evaluations.size());
    EXPECT_EQ(rank.evaluations.back().loss, first.evaluations.back().loss);
  }
}

TEST_F(TrainingLoop, DescribesTheRun) {
  const Outcome outcome = runs_.train("run", 3, {"training.epochs=2", "training.steps=0"});
  for (const Recorder& rank : outcome.ranks) {
    EXPECT_EQ(rank.start.model, "linear");
    EXPECT_EQ(rank.start.parameters, 8);
    EXPECT_EQ(rank.start.samples, 180);
    EXPECT_EQ(rank.start.evaluation_samples, 20);
    EXPECT_EQ(rank.start.ranks, 3);
    EXPECT_EQ(rank.start.virtual_workers, 12);
    EXPECT_THAT(rank.start.assignment, ElementsAre(4, 4, 4));
    EXPECT_EQ(rank.start.first_step, 0);
    EXPECT_EQ(rank.start.steps, 16);
    EXPECT_EQ(rank.start.steps_per_epoch, 8);
    EXPECT_EQ(rank.start.global_batch, 24);
  }
  EXPECT_EQ(outcome.summaries.back().steps, 16);
  EXPECT_FALSE(outcome.summaries.back().interrupted);
}

TEST_F(TrainingLoop, LearnsTheLinearModelThatMadeTheData) {
  const Outcome outcome = runs_.train("run", 3, {"training.steps=300"});
  EXPECT_GT(outcome.summaries.front().evaluation->r2, 0.99);
}

TEST_F(TrainingLoop, SetsTheThreadsOfLibtorch) {
  for (const int threads : {2, 1}) {
    const Outcome outcome = runs_.train(fmt::format("with-{}", threads), 2,
                                        {fmt::format("training.threads={}", threads)});
    for (const Recorder& rank : outcome.ranks) {
      EXPECT_EQ(rank.start.threads, threads);
      EXPECT_EQ(rank.threads, threads);
    }
  }
}

// A convolutional network with batch normalization, whose statistics are summed over virtual
// workers too.
class SameBits : public testing::TestWithParam<std::string> {
 protected:
  SameBits() : runs_(words()) { write_images(runs_.folder().path()); }

  Runs runs_;

 private:
  static Words words() {
    return {"data.format=idx",          "data.holdout=0.1",      "model.name=cnn",
            "model.channels=[4]",       "model.hidden=[16]",     "training.virtual_workers=12",
            "training.global_batch=25", "training.steps=10",     "optimizer.name=adamw",
            "optimizer.lr=0.01",        "lr_scheduler.name=step"};
  }

 protected:
  Words images(const Words& more = {}) const {
    return strategy(GetParam()) +
           Words{"data.images=" + (runs_ / "images").string(),
                 "data.labels=" + (runs_ / "labels").string()} +
           more;
  }
};

TEST_P(SameBits, OnAnyNumberOfRanks) {
  runs_.train("alone", 1, images());
  const std::string alone = runs_.model("alone");
  EXPECT_GT(runs_.tensors("alone").size(), 6u);
  runs_.resume("alone", 1, images({"training.steps=12"}));
  const std::string resumed = runs_.model("alone");
  EXPECT_NE(resumed, alone);
  for (const int ranks : {2, 3, 4, 6}) {
    const std::string run = fmt::format("on-{}", ranks);
    runs_.train(run, ranks, images());
    EXPECT_EQ(runs_.model(run), alone) << run;
    // The optimizer's state as well.
    runs_.resume(run, 1, images({"training.steps=12"}));
    EXPECT_EQ(runs_.model(run), resumed) << run;
  }
}

TEST_P(SameBits, HoweverVirtualWorkersAreDealtOut) {
  runs_.train("even", 3, images());
  const Outcome given = runs_.train("given", 3, images({"training.shares=[1, 8, 2.5]"}));
  EXPECT_THAT(given.ranks.back().start.assignment, ElementsAre(1, 9, 2));
  EXPECT_EQ(runs_.model("given"), runs_.model("even"));
}

TEST_P(SameBits, HoweverOftenTheModelIsEvaluated) {
  runs_.train("once", 3, images());
  const Outcome often = runs_.train("often", 3, images({"evaluation.every_steps=1"}));
  EXPECT_EQ(often.ranks.front().evaluations.size(), 10u);
  EXPECT_EQ(runs_.model("often"), runs_.model("once"));
}

INSTANTIATE_TEST_SUITE_P(Strategies, SameBits,
                         testing::Values(kReplicated, kHostShared, kParameterServer),
                         [](const auto& info) { return info.param; });

TEST(MeasuredShares, DealOutVirtualWorkersAndChangeNoBits) {
  Runs runs;
  runs.train("even", 3);
  const Outcome measured = runs.train("measured", 2, {"training.measure_shares=true"});
  const auto& assignment = measured.ranks.front().start.assignment;
  ASSERT_EQ(assignment.size(), 2u);
  EXPECT_EQ(assignment[0] + assignment[1], 12);
  EXPECT_EQ(runs.model("measured"), runs.model("even"));
  const Config written = read_config(runs / "measured" / "config.toml", {});
  EXPECT_FALSE(written.training.measure_shares);
  ASSERT_EQ(written.training.shares.size(), 2u);
  EXPECT_EQ(std::ranges::max(written.training.shares), 1) << "the faster rank has 1";
}

}  // namespace
}  // namespace trireme::test
