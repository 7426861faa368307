// A loss or a gradient that is no longer finite ends the run with an error that names its step.

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/train/runs.h"
#include "trireme/base/error.h"
#include "trireme/base/files.h"

namespace trireme::test {
namespace {

using testing::AllOf;
using testing::Each;
using testing::HasSubstr;
using testing::StartsWith;
using testing::ThrowsMessage;

class Divergence : public testing::TestWithParam<std::string> {
 protected:
  // 40 rows in steps of 8, of which the row `bad` is given: it belongs to step bad / 8 + 1.
  void write_rows(int bad, const std::string& row) const {
    std::string table = "x0,x1,y\n";
    for (int i = 0; i < 40; ++i) {
      table += i == bad ? row + "\n" : fmt::format("{},{},{}\n", i % 7, i % 5, i % 3);
    }
    write_file_atomically(runs_ / "table.csv", table);
  }

  Words on_table(const Words& more = {}) const {
    return Words{"data.format=csv",
                 "data.path=" + (runs_ / "table.csv").string(),
                 "data.target=y",
                 "data.sampler=sequential",
                 "data.holdout=0",
                 "training.global_batch=8",
                 "training.virtual_workers=4",
                 "training.steps=10",
                 "optimizer.name=sgd",
                 "optimizer.lr=0.001",
                 "checkpoint.every_steps=1",
                 "model.init=zero"} +
           more;
  }

  Runs runs_;
};

// Virtual worker 3, on the last rank, has the bad row. With parameters in shards, another rank has
// the gradient.
TEST_P(Divergence, OfTheLossNamesStepAndParameterOnEveryRank) {
  write_rows(19, "1e30,1,1");
  for (const int ranks : {1, 2, 3, 4}) {
    std::filesystem::remove_all(runs_ / "run");
    EXPECT_THAT(runs_.errors("run", ranks, on_table(strategy(GetParam()))),
                Each(AllOf(StartsWith("diverged: training diverged: the loss of step 3 is inf"),
                           HasSubstr("the first parameter with a bad gradient is weight"))))
        << ranks << " ranks";
    EXPECT_FALSE(std::filesystem::exists(runs_ / "run" / "model.safetensors"));
    EXPECT_THAT(runs_.checkpoints("run"), testing::ElementsAre(1, 2));
  }
}

// The loss is 1 where weights are zero, and the gradient of the first weight no f32.
TEST_P(Divergence, OfTheGradientAloneNamesStepAndParameterOnEveryRank) {
  write_rows(0, "3.2e38,0,2");
  for (const int ranks : {1, 3}) {
    EXPECT_THAT(
        runs_.errors("run", ranks, on_table(strategy(GetParam()))),
        Each(AllOf(StartsWith("diverged: training diverged: the gradient of step 1 is not finite"),
                   HasSubstr("the first parameter with a bad gradient is weight"))))
        << ranks << " ranks";
  }
}

// A target whose square is no f32.
TEST_P(Divergence, WithFiniteGradientsSaysSo) {
  write_rows(11, "1,1,3e19");
  EXPECT_THAT(
      runs_.errors("run", 3, on_table(strategy(GetParam()))),
      Each(AllOf(HasSubstr("the loss of step 2 is inf"), HasSubstr("every gradient is finite"))));
}

INSTANTIATE_TEST_SUITE_P(Each, Divergence,
                         testing::Values(kReplicated, kHostShared, kParameterServer),
                         [](const auto& info) { return info.param; });

// Others than the rank that diverged end because it has left: its error is the cause.
TEST_F(Divergence, OfOneRankThatTakesLocalStepsEndsAll) {
  write_rows(39, "1e30,1,1");
  EXPECT_THAT(
      [&] {
        runs_.train("run", 3,
                    on_table({"data.sampler=block", "communication.mode=hybrid",
                              "communication.local_steps=50", "training.steps=100"}));
      },
      ThrowsMessage<DivergedError>(HasSubstr("the first parameter with a bad gradient is weight")));
}

TEST_F(Divergence, OfAGroupThroughServersEndsAll) {
  write_rows(39, "1e30,1,1");
  EXPECT_THAT(
      [&] {
        runs_.train("run", 4,
                    on_table({"data.sampler=block", "communication.mode=asynchronous",
                              "communication.group_size=2", "communication.timeout=20",
                              "training.steps=100"}));
      },
      ThrowsMessage<DivergedError>(HasSubstr("training diverged")));
}

}  // namespace
}  // namespace trireme::test
