// A run whose observer asks to stop: all ranks stop after the same step, and the run resumes.

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>

#include "tests/base/stopped_clock.h"
#include "tests/comm/ranks.h"
#include "tests/train/runs.h"
#include "trireme/plan/resolve.h"
#include "trireme/train/evaluator.h"
#include "trireme/train/trainer.h"

namespace trireme::test {
namespace {

using testing::ElementsAre;

class Stop : public testing::TestWithParam<std::string> {
 protected:
  Runs runs_;
};

TEST_P(Stop, RequestedByOneRankEndsAllAfterTheSameStep) {
  runs_.train("whole", 3, strategy(GetParam()));
  for (const int ranks : {1, 2, 3, 4}) {
    const std::string run = fmt::format("on-{}", ranks);
    const Outcome stopped =
        runs_.train(run, ranks, strategy(GetParam()), {.rank = ranks - 1, .step = 13});
    for (const RunSummary& summary : stopped.summaries) {
      EXPECT_EQ(summary.steps, 13);
      EXPECT_TRUE(summary.interrupted);
    }
    for (const Recorder& rank : stopped.ranks) EXPECT_EQ(rank.steps.back().step, 13);
    EXPECT_THAT(runs_.checkpoints(run), ElementsAre(13));
    EXPECT_FALSE(std::filesystem::exists(runs_ / run / "model.safetensors"));

    const Outcome resumed = runs_.resume(run, 2, strategy(GetParam()));
    EXPECT_EQ(resumed.ranks.back().start.first_step, 13);
    EXPECT_FALSE(resumed.summaries.back().interrupted);
    EXPECT_EQ(runs_.model(run), runs_.model("whole"));
  }
}

TEST_P(Stop, RequestedInTheLastStepHasNoEffect) {
  const Outcome outcome = runs_.train("run", 3, strategy(GetParam()), {.rank = 1, .step = 40});
  EXPECT_FALSE(outcome.summaries.front().interrupted);
  EXPECT_TRUE(std::filesystem::exists(runs_ / "run" / "model.safetensors"));
}

TEST_P(Stop, IsNotEvaluated) {
  // Step 8 ends an epoch.
  const Outcome outcome = runs_.train("run", 2, strategy(GetParam()), {.rank = 0, .step = 8});
  EXPECT_TRUE(outcome.ranks.front().evaluations.empty());
}

TEST_P(Stop, EndsAnEvaluationOnAllRanksAndLeavesTheModelAsItWas) {
  const Config config =
      runs_.config("run", strategy(GetParam()) + Words{"data.holdout=0.5", "evaluation.batch=2"});
  run_ranks(3, [&](Communicator& world) {
    Trainer trainer(config, plan::resolve(config, world.size()), world);
    trainer.step();
    int batches = 0;
    const auto stop_in_the_third = [&] { return world.rank() == 1 && ++batches > 2; };
    EXPECT_FALSE(evaluate(trainer, stop_in_the_third).has_value());
    EXPECT_LE(batches, 10) << "of 20";
    const auto again = evaluate(trainer, [] { return false; });
    ASSERT_TRUE(again.has_value());
    EXPECT_EQ(again->samples, 100);
    EXPECT_EQ(again->loss, evaluate(trainer)->loss);
  });
}

// An hour passes on one rank in step 12.
class HourInStep12 final : public Observer {
 public:
  explicit HourInStep12(bool passes) : passes_(passes) {}
  void on_step(const StepReport& report) override {
    if (passes_ && report.step == 12) clock.advance(std::chrono::hours(1));
  }

  StoppedClock clock;

 private:
  bool passes_;
};

TEST_P(Stop, AfterMaxTimeOfOneRankEndsAllAfterTheSameStep) {
  runs_.train("whole", 3, strategy(GetParam()));
  for (const int ranks : {1, 3}) {
    const std::string run = fmt::format("on-{}", ranks);
    const Config config =
        runs_.config(run, strategy(GetParam()) + Words{"training.max_time=59m59.5s"});
    std::vector<RunSummary> summaries(static_cast<std::size_t>(ranks));
    run_ranks(ranks, [&](Communicator& world) {
      HourInStep12 observer(world.rank() == ranks - 1);
      summaries[static_cast<std::size_t>(world.rank())] =
          train(config, world, observer, {.clock = &observer.clock});
    });
    for (const RunSummary& summary : summaries) {
      EXPECT_EQ(summary.steps, 13);
      EXPECT_TRUE(summary.interrupted);
    }
    EXPECT_TRUE(summaries.back().out_of_time);
    EXPECT_THAT(runs_.checkpoints(run), ElementsAre(13));
    const Outcome resumed = runs_.resume(run, 2, strategy(GetParam()));
    EXPECT_FALSE(resumed.summaries.front().out_of_time);
    EXPECT_EQ(runs_.model(run), runs_.model("whole"));
  }
}

INSTANTIATE_TEST_SUITE_P(Each, Stop, testing::Values(kReplicated, kHostShared, kParameterServer),
                         [](const auto& info) { return info.param; });

TEST_F(Stop, OfLocalStepsFollowsASynchronizationAndResumesWithTheSameBits) {
  for (const Words& mode : {local_sgd(), diloco(), diloco_in_pairs()}) {
    runs_.train("whole", 3, mode);
    const Outcome stopped = runs_.train("cut", 3, mode, {.rank = 1, .step = 11});
    for (const RunSummary& summary : stopped.summaries) {
      EXPECT_TRUE(summary.interrupted);
      EXPECT_EQ(summary.steps, 16);
    }
    EXPECT_THAT(runs_.checkpoints("cut"), ElementsAre(16));
    runs_.resume("cut", 3, mode);
    EXPECT_EQ(runs_.model("cut"), runs_.model("whole"));
  }
}

// A signal goes to all ranks, which get it in different steps.
TEST_F(Stop, OfRanksThatDoNotWaitLeavesACheckpointToResumeFrom) {
  for (const char* group_size : {"1", "2"}) {
    const Words words = {"communication.mode=asynchronous",
                         std::string("communication.group_size=") + group_size};
    const Outcome stopped =
        runs_.train("run", 4, words + Words{"training.steps=4000"}, {.rank = -1, .step = 13});
    for (const RunSummary& summary : stopped.summaries) {
      EXPECT_TRUE(summary.interrupted);
      EXPECT_LT(summary.steps, 4000);
    }
    const auto kept = runs_.checkpoints("run");
    ASSERT_EQ(kept.size(), 1u);
    const std::int64_t end = *kept.begin() + 100;
    const Outcome resumed =
        runs_.resume("run", 4, words + Words{fmt::format("training.steps={}", end)});
    EXPECT_EQ(resumed.summaries.front().steps, end);
    EXPECT_FALSE(resumed.summaries.front().interrupted);
  }
}

}  // namespace
}  // namespace trireme::test
