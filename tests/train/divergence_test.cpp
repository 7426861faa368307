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

  // The same without the rows of a range.
  void write_rows_without(Range left_out) const {
    std::string table = "x0,x1,y\n";
    for (int i = 0; i < 40; ++i) {
      if (i >= left_out.begin && i < left_out.end) continue;
      table += fmt::format("{},{},{}\n", i % 7, i % 5, i % 3);
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

// The first rows of the table, the gradients of which no f32 holds, ruin nothing: the weights of
// step 1 are never written.
TEST_P(Divergence, OfTheFirstStepLeavesNoCheckpoint) {
  write_rows(0, "1e30,1e30,1e15");
  for (const int ranks : {1, 2}) {
    EXPECT_THAT(runs_.errors("run", ranks, on_table(strategy(GetParam()))),
                Each(AllOf(HasSubstr("of step 1 is"),
                           HasSubstr("virtual worker 0 (of the training samples, counted from 0: "
                                     "0, 4)"))))
        << ranks << " ranks";
    EXPECT_FALSE(std::filesystem::exists(runs_ / "run" / "checkpoints" / "step-1"));
    std::filesystem::remove_all(runs_ / "run");
  }
}

// A step that is skipped leaves what a run has that never saw its samples: parameters, optimizer
// and the schedule of the learning rate.
TEST_P(Divergence, ThatIsSkippedIsAStepThatDidNotHappen) {
  const Words skipping = on_table(strategy(GetParam()) +
                                  Words{"optimizer.name=adam", "lr_scheduler.name=step",
                                        "lr_scheduler.step_size=2", "checkpoint.every_steps=3"});
  for (const int ranks : {1, 3}) {
    write_rows(19, "1e30,1,1");  // in steps 3 and 8
    const Outcome skipped =
        runs_.train("skipped", ranks, skipping + Words{"training.on_nonfinite=skip"});
    EXPECT_EQ(skipped.summaries[0].skipped_steps, 2);
    EXPECT_EQ(skipped.summaries[0].steps, 10);
    EXPECT_THAT(skipped.ranks[0].steps[2].skipped, HasSubstr("the loss of step 3 is inf"));
    EXPECT_EQ(skipped.ranks[0].steps[3].skipped, "");
    EXPECT_THAT(runs_.metrics("skipped"), testing::Contains(HasSubstr("\"skipped_steps\":1")));

    write_rows_without({16, 24});
    runs_.train("without", ranks, skipping + Words{"training.steps=8"});
    EXPECT_EQ(runs_.model("skipped"), runs_.model("without")) << ranks << " ranks";
  }
}

TEST_P(Divergence, ThatIsSkippedIsRememberedByCheckpoints) {
  const Words words =
      on_table(strategy(GetParam()) + Words{"training.on_nonfinite=skip", "lr_scheduler.name=step",
                                            "lr_scheduler.step_size=2", "checkpoint.keep=20"});
  write_rows(19, "1e30,1,1");
  runs_.train("run", 2, words);
  runs_.copy_until("run", "resumed", 5);
  runs_.resume("resumed", 2, words);
  EXPECT_EQ(runs_.model("resumed"), runs_.model("run"));
}

TEST_P(Divergence, OfManyStepsInARowIsNotSkipped) {
  write_rows(19, "1e30,1,1");
  EXPECT_THAT(
      runs_.errors("run", 3,
                   on_table(strategy(GetParam()) +
                            Words{"training.on_nonfinite=skip", "training.max_skipped_steps=3",
                                  "training.global_batch=40", "checkpoint.every_steps=0"})),
      Each(AllOf(HasSubstr("the loss of step 4 is inf"), HasSubstr("3 steps in a row"),
                 HasSubstr("training.max_skipped_steps"))));
}

// A run that is resumed between them counts on.
TEST_P(Divergence, OfManyStepsInARowIsCountedAcrossRuns) {
  const Words words = on_table(strategy(GetParam()) +
                               Words{"training.on_nonfinite=skip", "training.global_batch=40",
                                     "training.max_skipped_steps=4", "checkpoint.keep=9"});
  write_rows(19, "3.2e38,0,2");
  const auto expected = AllOf(Each(HasSubstr("of step 4 is")), Each(HasSubstr("4 steps in a row")));
  EXPECT_THAT(runs_.errors("run", 2, words), expected);
  EXPECT_THAT([&] { runs_.resume("run", 2, words); },
              ThrowsMessage<DivergedError>(HasSubstr("4 steps in a row")));
}

// Every gradient is finite, and the step is too long.
TEST_P(Divergence, OfAnUpdateIsNotSaved) {
  write_rows(0, "1,1,1");
  EXPECT_THAT(runs_.errors("run", 2, on_table(strategy(GetParam()) + Words{"optimizer.lr=1e39"})),
              Each(HasSubstr("after step 1 parameter weight is not finite")));
  EXPECT_FALSE(std::filesystem::exists(runs_ / "run" / "checkpoints" / "step-1"));
}

TEST_P(Divergence, OfAnEvaluationEndsTheRun) {
  std::string table = "x0,x1,y\n";
  for (int i = 0; i < 40; ++i) table += "1,0,100\n";
  write_file_atomically(runs_ / "table.csv", table);
  write_file_atomically(runs_ / "test.csv", "x0,x1,y\n1,0,100\n3e38,0,1\n");
  const std::string test = "data.test_path=" + (runs_ / "test.csv").string();
  EXPECT_THAT(
      runs_.errors("run", 2, on_table(strategy(GetParam()) + Words{test, "optimizer.lr=0.1"})),
      Each(HasSubstr("the evaluation's loss is ")));
}

INSTANTIATE_TEST_SUITE_P(Each, Divergence,
                         testing::Values(kReplicated, kHostShared, kParameterServer),
                         [](const auto& info) { return info.param; });

// Groups that train by themselves skip by themselves, and meet all the same.
TEST_F(Divergence, OfOneGroupIsSkippedByThatGroup) {
  write_rows(39, "3.2e38,0,2");
  for (const Words& mode : {local_sgd(), streaming_diloco(), asynchronous(), backup_workers()}) {
    const Outcome outcome =
        runs_.train("run", 3,
                    on_table(mode + Words{"data.sampler=block", "training.on_nonfinite=skip",
                                          "training.steps=20", "training.max_skipped_steps=30",
                                          "checkpoint.every_steps=0"}));
    // With backup workers the others may have made the step without this one.
    if (mode != backup_workers()) {
      EXPECT_GT(outcome.summaries[2].skipped_steps, 0);
    }
    EXPECT_TRUE(std::filesystem::exists(runs_ / "run" / "model.safetensors"));
    std::filesystem::remove_all(runs_ / "run");
  }
}

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
