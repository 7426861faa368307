// A run that goes on from a checkpoint in another mode.

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/train/runs.h"

namespace trireme::test {
namespace {

using testing::Contains;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::StartsWith;

Words until(int step) {
  return {"training.steps=" + std::to_string(step)};
}

double r2(const Outcome& outcome) {
  return outcome.summaries.front().evaluation.value().r2.value();
}

class ModeChange : public testing::Test {
 protected:
  Runs runs_;
};

class LocalStepsAfterOthers : public testing::TestWithParam<Words> {
 protected:
  Runs runs_;
};

TEST_P(LocalStepsAfterOthers, FollowASynchronousRunAndAreFollowedByOne) {
  runs_.train("run", 3, until(20));
  EXPECT_THAT(runs_.tensors_of_checkpoint("run", 20), Not(Contains(StartsWith("strategy."))));

  const Outcome local = runs_.resume("run", 3, GetParam() + until(40));
  EXPECT_THAT(local.ranks.front().start.not_restored,
              Contains(StartsWith("strategy.local_steps.")));
  EXPECT_THAT(runs_.tensors_of_checkpoint("run", 40), Contains("strategy.local_steps.step"));

  const Outcome synchronous = runs_.resume("run", 2, until(60));
  EXPECT_THAT(synchronous.ranks.front().start.not_restored, IsEmpty());
  EXPECT_THAT(runs_.tensors_of_checkpoint("run", 60), Not(Contains(StartsWith("strategy."))));

  const Outcome again = runs_.resume("run", 4, GetParam() + until(300));
  EXPECT_EQ(again.summaries.back().steps, 300);
  EXPECT_GT(r2(again), 0.9);
}

TEST_P(LocalStepsAfterOthers, ContinueOnOtherNumbersOfRanks) {
  const Words words = GetParam() + Words{"checkpoint.every_steps=10", "checkpoint.keep=100"};
  runs_.train("whole", 3, words);
  for (const int ranks : {1, 2, 4}) {
    runs_.copy_until("whole", "cut", 24);
    EXPECT_EQ(runs_.resume("cut", ranks, words).summaries.back().steps, 40);
    EXPECT_THAT(runs_.checkpoints("cut"), Contains(40));
  }
}

constexpr const char* kFormNames[] = {"local_sgd", "diloco", "streaming_diloco", "diloco_in_pairs"};

INSTANTIATE_TEST_SUITE_P(ModeChange, LocalStepsAfterOthers,
                         testing::Values(local_sgd(), diloco(), streaming_diloco(),
                                         diloco_in_pairs()),
                         [](const auto& info) { return kFormNames[info.index]; });

// The mean of one step's parameters is the step of the mean gradient, but for rounding.
TEST_F(ModeChange, OneLocalStepIsASynchronousStep) {
  const Words sgd = {"optimizer.name=sgd", "optimizer.momentum=0.9", "training.precision=f64"};
  runs_.train("synchronous", 3, sgd);
  runs_.train("local", 3, sgd + until(20));
  runs_.resume("local", 3, sgd + Words{"communication.mode=hybrid", "communication.local_steps=1"});
  const auto expected = runs_.tensors("synchronous");
  for (const auto& [name, tensor] : runs_.tensors("local")) {
    EXPECT_TRUE(at::allclose(tensor, expected.at(name), 1e-11, 1e-12)) << name;
  }
}

TEST_F(ModeChange, TheOptimizerStateOfEachGroupIsKept) {
  runs_.train("alone", 3, diloco());
  const auto alone = runs_.tensors_of_checkpoint("alone", 40);
  for (const char* prefix : {"optimizer.", "group-1.optimizer.", "group-2.optimizer."}) {
    EXPECT_THAT(alone, Contains(StartsWith(prefix)));
  }
  EXPECT_THAT(alone, Contains(StartsWith("strategy.local_steps.outer_momentum.")));
  runs_.train("pairs", 4, diloco_in_pairs());
  EXPECT_THAT(runs_.tensors_of_checkpoint("pairs", 40), Contains(StartsWith("group-1.optimizer.")));
  EXPECT_THAT(runs_.tensors_of_checkpoint("pairs", 40), Not(Contains(HasSubstr("group-2."))));
}

TEST_F(ModeChange, EachServerModeContinuesWhatAnotherHasLearned) {
  const Words synchronous_server = strategy(kParameterServer);
  int steps = 40;
  const double before = r2(runs_.train("run", 3, until(steps)));
  for (const Words& mode : {asynchronous(), synchronous_server, bounded_staleness(), Words{},
                            backup_workers(), strategy(kHostShared), asynchronous(), diloco()}) {
    steps += 40;
    const Outcome outcome = runs_.resume("run", 3, mode + until(steps));
    EXPECT_EQ(outcome.ranks.front().start.first_step, steps - 40);
    EXPECT_EQ(outcome.summaries.front().steps, steps);
  }
  EXPECT_LT(before, 0.9);
  EXPECT_GT(r2(runs_.resume("run", 3, until(steps + 1))), 0.95);
}

TEST_F(ModeChange, OneGroupOfAllRanksHasTheBitsOfASynchronousRun) {
  const Words clip = {"training.clip_norm=1.0"};
  runs_.train("synchronous", 1, clip);
  for (const int ranks : {2, 3, 4}) {
    for (const Words& mode : {asynchronous(), bounded_staleness()}) {
      runs_.train("group", ranks, mode + clip + Words{"communication.group_size=0"});
      EXPECT_EQ(runs_.model("group"), runs_.model("synchronous")) << ranks << " ranks";
    }
  }
}

TEST_F(ModeChange, EveryModeThroughServersLearns) {
  for (const Words& mode : {asynchronous(), bounded_staleness(), backup_workers()}) {
    for (const int ranks : {2, 3}) {
      EXPECT_GT(r2(runs_.train("run", ranks, mode + until(300))), 0.95) << mode.back();
    }
    const Words pairs = {"communication.group_size=2"};
    for (const int ranks : {3, 4}) {
      EXPECT_GT(r2(runs_.train("pairs", ranks, mode + pairs + until(300))), 0.95) << mode.back();
    }
  }
  for (const char* codec : {"int8", "sign", "power_sgd"}) {
    const Words compression = {std::string("communication.compression=") + codec};
    EXPECT_GT(r2(runs_.train("run", 3, asynchronous() + compression + until(400))), 0.9) << codec;
  }
}

}  // namespace
}  // namespace trireme::test
