// `trireme verify`: what it prints, its exit codes, and what it refuses before it starts.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "tests/cli/program.h"
#include "trireme/base/files.h"

namespace trireme::test {
namespace {

using nlohmann::json;
using testing::AllOf;
using testing::HasSubstr;
using testing::StartsWith;

constexpr int kUsage = 2, kDiverged = 5, kDifferent = 6;

using Words = std::vector<std::string>;

Words operator+(Words words, const Words& more) {
  words.insert(words.end(), more.begin(), more.end());
  return words;
}

constexpr const char* kFile =
    "[run]\ndirectory = \"out\"\n[data]\nsamples = 60\nfeatures_count = 5\n"
    "[model]\nname = \"mlp\"\nhidden = [7]\n[training]\nglobal_batch = 12\n"
    "[optimizer]\nname = \"adam\"\n";

class Verify : public testing::Test {
 protected:
  Verify() { write_file_atomically(folder_ / "run.toml", kFile); }

  Ended verify(Words words) const {
    words.insert(words.begin(), {"verify", "run.toml"});
    return run_program(folder_.path(), words);
  }

  TemporaryFolder folder_;
};

TEST_F(Verify, PrintsALineForEachLayoutAndWritesNothing) {
  const Ended ended = verify({"ranks=3", "strategy=host_shared", "shard=3,ranks=2"});
  EXPECT_EQ(ended.exit_code, 0) << ended.err;
  EXPECT_EQ(ended.err, "");
  const std::string same =
      "same bits in 3 steps: loss, norm, 4 gradients, 4 parameters, 12 tensors of optimizer "
      "state\n";
  EXPECT_EQ(ended.out,
            "ranks=3: " + same + "strategy=host_shared: " + same + "shard=3,ranks=2: " + same);
  EXPECT_FALSE(std::filesystem::exists(folder_ / "out"));
}

TEST_F(Verify, TakesOverridesAndPrintsJson) {
  const Ended ended = verify({"shard=1", "training.virtual_workers=6", "--steps", "2", "--json",
                              "training.precision=bf16", "parallelism.recompute=full"});
  ASSERT_EQ(ended.exit_code, 0) << ended.err;
  const json report = json::parse(ended.out);
  EXPECT_EQ(report["virtual_workers"], 6);
  ASSERT_EQ(report["layouts"].size(), 1);
  const json& layout = report["layouts"][0];
  EXPECT_EQ(layout["layout"], "shard=1");
  EXPECT_EQ(layout["ranks"], 2);
  EXPECT_EQ(layout["result"], "same");
  EXPECT_EQ(layout["steps"], 2);
  EXPECT_EQ(layout["compared"]["gradient"], 4);
}

TEST_F(Verify, EndsWith6AndTheFirstDifference) {
  const Words words = {"ranks=1", "ranks=2", "communication.compression=int8", "--bound", "1e-9"};
  const Ended ended = verify(words);
  EXPECT_EQ(ended.exit_code, kDifferent) << ended.err;
  EXPECT_EQ(ended.err, "");
  EXPECT_THAT(ended.out, HasSubstr("\nranks=2: different in step 1: gradient layers.0.weight, "
                                   "element 0: "));
  EXPECT_THAT(ended.out, HasSubstr(" of the rank's 35 elements differ)\n"));
  const json report = json::parse(verify(words + Words{"--json"}).out);
  const json& difference = report["layouts"][1]["difference"];
  EXPECT_EQ(report["layouts"][1]["result"], "different");
  EXPECT_EQ(difference["tensor"], "layers.0.weight");
  EXPECT_EQ(difference["rank"], 0);
  EXPECT_EQ(difference["step"], 1);
  EXPECT_NE(difference["value"], difference["expected"]);
}

TEST_F(Verify, GoesOnAfterALayoutThatFails) {
  const Ended ended = verify({"ranks=2", "ranks=1", "optimizer.name=sgd", "optimizer.lr=1e30"});
  EXPECT_EQ(ended.exit_code, kDiverged);
  EXPECT_EQ(ended.out, "");
  EXPECT_EQ(std::ranges::count(ended.err, '\n'), 2) << ended.err;
  EXPECT_THAT(ended.err,
              AllOf(StartsWith("trireme: verify: ranks=2: "),
                    HasSubstr("\ntrireme: verify: ranks=1: "), HasSubstr("training diverged: ")));
}

TEST_F(Verify, TakesTheRanksOfTheLauncherThatStartedIt) {
  const auto run = [&](const std::string& layout) {
    return run_program(folder_.path(), {"run", "-n", "4", TRIREME_PROGRAM, "verify", "run.toml",
                                        "shard=1", layout});
  };
  const Ended ended = run("shard=2,ranks=3");
  EXPECT_EQ(ended.exit_code, 0) << ended.err;
  EXPECT_EQ(std::ranges::count(ended.out, '\n'), 2) << ended.out;
  EXPECT_THAT(ended.out, AllOf(StartsWith("shard=1: same bits in 3 steps"),
                               HasSubstr("\nshard=2,ranks=3: same bits in 3 steps")));
  const Ended other = run("ranks=2");
  EXPECT_EQ(other.exit_code, kUsage);
  EXPECT_THAT(other.err, HasSubstr("the launcher has started 4 ranks, which are 3 of a layout"));
}

struct Refusal {
  const char* name;
  Words words;
  std::string message;
};

class VerifyRefusals : public Verify, public testing::WithParamInterface<Refusal> {};

TEST_P(VerifyRefusals, AreOneLineBeforeAnythingRuns) {
  const Ended ended = verify(GetParam().words);
  EXPECT_EQ(ended.exit_code, kUsage);
  EXPECT_EQ(ended.out, "");
  EXPECT_THAT(ended.err, AllOf(StartsWith("trireme: verify"), HasSubstr(GetParam().message)));
  EXPECT_EQ(std::ranges::count(ended.err, '\n'), 1) << ended.err;
}

INSTANTIATE_TEST_SUITE_P(
    Verify, VerifyRefusals,
    testing::Values(
        Refusal{"NoLayout", {"training.steps=5"}, "no layout; name at least one"},
        Refusal{
            "UnknownPart", {"shrad=2"}, "layout shrad=2: no part \"shrad\"; did you mean shard?"},
        Refusal{"UnknownPartOfNothing",
                {"ranks=2,xyzzy=1"},
                "no part \"xyzzy\"; the parts are ranks, recompute, shard, shard_within, strategy"},
        Refusal{"PartWithoutValue", {"ranks="}, "each part must be name=value, got \"ranks=\""},
        Refusal{"EmptyPart", {"ranks=2,,shard=1"}, "each part must be name=value, got \"\""},
        Refusal{"PartTwice", {"ranks=2,ranks=3"}, "ranks comes twice"},
        Refusal{"NoNumberOfRanks", {"ranks=two"}, "a number from 1 to 255, got \"two\""},
        Refusal{"TooManyRanks", {"ranks=256"}, "a number from 1 to 255, got \"256\""},
        Refusal{"SmallBatch",
                {"ranks=2", "ranks=13"},
                "ranks=2: training.global_batch must hold a sample for each of the 13 virtual "
                "workers, got 12"},
        Refusal{"LocalSteps",
                {"ranks=2", "communication.mode=hybrid"},
                "ranks=2: communication.mode must be \"synchronous\""},
        Refusal{"Codec",
                {"ranks=2", "communication.compression=int8"},
                "communication.compression = \"int8\" changes bits"},
        Refusal{"WrongStrategy",
                {"strategy=host_shared", "optimizer.name=lamb"},
                "strategy=host_shared: optimizer.name = \"lamb\" does not go with"}),
    [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace trireme::test
