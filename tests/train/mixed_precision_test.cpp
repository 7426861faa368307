// Runs in bf16 and f16.

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "tests/train/runs.h"
#include "trireme/base/files.h"

namespace trireme::test {
namespace {

using testing::AllOf;
using testing::Each;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;

class MixedPrecisionRuns : public testing::TestWithParam<std::string> {
 protected:
  MixedPrecisionRuns() { write_rows("1,2,2"); }

  // 40 rows in steps of 8; each step has targets of 2 and begins with predictions near 0.
  void write_rows(const std::string& first) const {
    std::string table = "x0,x1,y\n" + first + "\n";
    for (int i = 1; i < 40; ++i) table += fmt::format("{},{},{}\n", i % 7, i % 5, i % 3);
    write_file_atomically(runs_ / "table.csv", table);
  }

  Words on_table(const Words& more = {}) const {
    return strategy(GetParam()) +
           Words{"data.format=csv",
                 "data.path=" + (runs_ / "table.csv").string(),
                 "data.target=y",
                 "data.sampler=sequential",
                 "data.holdout=0",
                 "training.global_batch=8",
                 "training.virtual_workers=4",
                 "training.steps=8",
                 "optimizer.name=sgd",
                 "optimizer.lr=0.001",
                 "checkpoint.every_steps=1",
                 "checkpoint.keep=9",
                 "model.init=zero"} +
           more;
  }

  static std::vector<double> scales(const Recorder& rank) {
    std::vector<double> all;
    for (const StepReport& step : rank.steps) all.push_back(step.loss_scale.value_or(0));
    return all;
  }

  Runs runs_;
};
INSTANTIATE_TEST_SUITE_P(Strategies, MixedPrecisionRuns,
                         testing::Values(kReplicated, kHostShared, kParameterServer),
                         [](const auto& info) { return info.param; });

// The derivative of the squared error is 2 * 2 * scale: more than f16 holds until the scale is
// 8192.
TEST_P(MixedPrecisionRuns, SkipStepsThatOverflowUntilTheLossScaleFits) {
  std::string bits;
  for (const int ranks : {1, 2, 4}) {
    const Outcome outcome = runs_.train(
        "run", ranks, on_table({"training.precision=f16", "training.loss_scale_growth_steps=4"}));
    EXPECT_EQ(outcome.summaries[0].skipped_steps, 3);
    for (const Recorder& rank : outcome.ranks) {
      EXPECT_THAT(scales(rank), ElementsAre(65536, 32768, 16384, 8192, 8192, 8192, 8192, 16384));
    }
    EXPECT_THAT(outcome.ranks[0].steps[1].skipped, HasSubstr("a loss scale of 32768"));
    EXPECT_THAT(outcome.ranks[0].start.precision, HasSubstr("rounded to f16"));
    EXPECT_THAT(runs_.metrics("run"), testing::Contains(HasSubstr("\"loss_scale\":8192.0")));
    if (bits.empty()) bits = runs_.model("run");
    EXPECT_EQ(runs_.model("run"), bits) << ranks << " ranks";
  }
}

// With a scale that fits from the beginning there is no skipped step; the scale changes no bit.
TEST_P(MixedPrecisionRuns, DoNotDependOnALossScaleThatFits) {
  runs_.train("one", 2, on_table({"training.precision=f16", "training.loss_scale=4096"}));
  runs_.train("other", 2, on_table({"training.precision=f16", "training.loss_scale=1024"}));
  EXPECT_EQ(runs_.model("one"), runs_.model("other"));
}

TEST_P(MixedPrecisionRuns, DoNotCountOverflowsAsStepsInARow) {
  const Outcome outcome =
      runs_.train("run", 2,
                  on_table({"training.precision=f16", "training.on_nonfinite=skip",
                            "training.max_skipped_steps=1"}));
  EXPECT_EQ(outcome.summaries[0].skipped_steps, 3);
}

TEST_P(MixedPrecisionRuns, ResumeWithTheirLossScale) {
  const Words words = on_table({"training.precision=f16", "training.loss_scale_growth_steps=3"});
  runs_.train("run", 2, words);
  runs_.copy_until("run", "resumed", 5);
  const Outcome resumed = runs_.resume("resumed", 2, words);
  EXPECT_THAT(scales(resumed.ranks[0]), ElementsAre(8192, 16384, 16384));
  EXPECT_EQ(runs_.model("resumed"), runs_.model("run"));
}

// 1e30 is infinite in f16, and so is the loss: no scale helps.
TEST_P(MixedPrecisionRuns, StopIfTheLossItselfOverflows) {
  write_rows("1e30,1,2");
  const Words words = on_table({"training.precision=f16"});
  EXPECT_THAT(runs_.errors("run", 2, words), Each(StartsWith("diverged: ")));
  EXPECT_THAT(runs_.errors("run", 2, words),
              Each(HasSubstr("training diverged: the loss of step 1 is")));
}

TEST_P(MixedPrecisionRuns, InBf16HaveTheSameBitsOnAnyNumberOfRanks) {
  std::string bits;
  for (const int ranks : {1, 2, 4}) {
    const Outcome outcome = runs_.train("run", ranks, on_table({"training.precision=bf16"}));
    EXPECT_THAT(outcome.ranks[0].start.precision, HasSubstr("bf16"));
    EXPECT_EQ(outcome.ranks[0].steps[0].loss_scale, std::nullopt);
    if (bits.empty()) bits = runs_.model("run");
    EXPECT_EQ(runs_.model("run"), bits) << ranks << " ranks";
  }
  runs_.train("exact", 1, on_table());
  EXPECT_NE(runs_.model("exact"), bits);
}

// 16 bits hold each parameter, and an lr that is too small for them still counts in the mean.
TEST_P(MixedPrecisionRuns, WithStochasticRoundingHaveParametersOfBf16) {
  const Words words = on_table({"training.precision=bf16", "training.stochastic_rounding=true"});
  if (GetParam() == kParameterServer) {
    EXPECT_THAT(runs_.errors("run", 1, words),
                Each(HasSubstr("training.stochastic_rounding needs parameters that ranks update")));
    return;
  }
  std::string bits;
  for (const int ranks : {1, 2, 4}) {
    runs_.train("run", ranks, words);
    if (bits.empty()) bits = runs_.model("run");
    EXPECT_EQ(runs_.model("run"), bits) << ranks << " ranks";
  }
  for (const auto& [name, tensor] : runs_.tensors("run")) {
    EXPECT_GT(tensor.abs().max().item<float>(), 0) << name;
    EXPECT_TRUE(at::equal(tensor.to(at::kBFloat16).to(at::kFloat), tensor)) << name;
  }
}

}  // namespace
}  // namespace trireme::test
