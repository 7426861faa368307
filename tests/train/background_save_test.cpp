// Runs whose checkpoints are written while training goes on (checkpoint.background).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/train/runs.h"
#include "trireme/checkpoint/compare.h"
#include "trireme/checkpoint/stored_tensors.h"

namespace trireme::test {
namespace {

constexpr const char* kBackground = "checkpoint.background=true";

struct SavingMode {
  const char* name;
  Words words;
};

void PrintTo(const SavingMode& mode, std::ostream* out) {
  *out << mode.name;
}

class SavingInTheBackground : public testing::TestWithParam<SavingMode> {
 protected:
  Words words() const {
    return GetParam().words + Words{"training.steps=9", "checkpoint.every_steps=2",
                                    "checkpoint.keep=100", "training.virtual_workers=6"};
  }

  void expect_same_checkpoint(std::int64_t step) const {
    const std::string name = "checkpoints/step-" + std::to_string(step);
    StoredTensors actual(runs_ / "beside" / name), expected(runs_ / "at-once" / name);
    const Comparison comparison = compare(actual, expected);
    EXPECT_TRUE(comparison.is_equal()) << name;
    EXPECT_GT(comparison.tensors, 0);
  }

  Runs runs_;
};

// Copies that were made too late, or not of all, would hold later values.
TEST_P(SavingInTheBackground, SavesTheSameCheckpoints) {
  for (const int ranks : {1, 3}) {
    const Outcome at_once = runs_.train("at-once", ranks, words());
    const Outcome beside = runs_.train("beside", ranks, words() + Words{kBackground});
    EXPECT_EQ(beside.ranks[0].checkpoints.size(), at_once.ranks[0].checkpoints.size());
    EXPECT_TRUE(beside.ranks[0].warnings.empty());
    EXPECT_EQ(runs_.model("beside"), runs_.model("at-once"));
    const std::set<std::int64_t> steps = runs_.checkpoints("at-once");
    EXPECT_EQ(runs_.checkpoints("beside"), steps);
    EXPECT_GE(steps.size(), 2U);
    for (const std::int64_t step : steps) expect_same_checkpoint(step);
  }
}

TEST_P(SavingInTheBackground, ARunThatIsStoppedHasSavedAndGoesOn) {
  runs_.train("whole", 2, words());
  runs_.train("stopped", 2, words() + Words{kBackground}, {.step = 5});
  EXPECT_EQ(*runs_.checkpoints("stopped").rbegin(), 5);
  runs_.resume("stopped", 3, words() + Words{kBackground});
  EXPECT_EQ(runs_.model("stopped"), runs_.model("whole"));
}

INSTANTIATE_TEST_SUITE_P(, SavingInTheBackground,
                         testing::Values(SavingMode{"Replicated", {"optimizer.name=adamw"}},
                                         SavingMode{"Stage2", {"parallelism.shard=2"}},
                                         SavingMode{"Stage3", {"parallelism.shard=3"}},
                                         SavingMode{"ParameterServer", strategy(kParameterServer)},
                                         SavingMode{"HostShared", strategy(kHostShared)}),
                         [](const auto& info) { return info.param.name; });

// Ranks that do not wait for each other: the first one saves for all.
TEST(SavingInTheBackgroundOfAsynchronousRanks, SavesAndResumes) {
  Runs runs;
  const Words words = asynchronous() + Words{"training.steps=12", "checkpoint.every_steps=3",
                                             "checkpoint.keep=100", kBackground};
  const Outcome outcome = runs.train("run", 3, words);
  EXPECT_FALSE(outcome.ranks[0].checkpoints.empty());
  EXPECT_FALSE(runs.checkpoints("run").empty());
  EXPECT_NO_THROW(runs.resume("run", 3, words + Words{"training.steps=15"}));
}

}  // namespace
}  // namespace trireme::test
