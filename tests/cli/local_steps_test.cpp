// Hybrid runs: stopped and resumed, and from one mode to another.

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "tests/cli/program.h"
#include "trireme/base/files.h"
#include "trireme/formats/safetensors.h"

namespace trireme {
namespace {

using test::Ended;
using test::Program;
using test::run_program;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

using Words = std::vector<std::string>;

Words operator+(Words words, const Words& more) {
  words.insert(words.end(), more.begin(), more.end());
  return words;
}

const Words kLocalSgd = {"communication.mode=hybrid", "communication.local_steps=8"};
const Words kDiloco = kLocalSgd + Words{"communication.hybrid=diloco"};
const Words kStreaming = kDiloco + Words{"communication.fragments=3", "communication.delay=2"};
const Words kInPairs = kDiloco + Words{"communication.group_size=2"};

class HybridRun : public testing::Test {
 protected:
  Ended try_train(const std::string& run, int ranks, const Words& more = {}) {
    const Words words = {"train",
                         "-n",
                         std::to_string(ranks),
                         "data.samples=500",
                         "data.features_count=7",
                         "data.holdout=0.1",
                         "training.global_batch=24",
                         "training.virtual_workers=12",
                         "training.threads=1",
                         "training.steps=40",
                         "evaluation.every_steps=10",
                         "checkpoint.every_steps=10",
                         "checkpoint.keep=100",
                         "metrics.every_steps=1",
                         "optimizer.name=adam",
                         "optimizer.lr=0.02",
                         "run.directory=" + run};
    return run_program(folder_.path(), words + more);
  }

  void train(const std::string& run, int ranks, const Words& more = {}) {
    const Ended ended = try_train(run, ranks, more);
    ASSERT_EQ(ended.exit_code, 0) << ended.err;
  }

  void resume(const std::string& run, int ranks, const Words& more = {}) {
    const Ended ended = run_program(
        folder_.path(), Words{"train", "--resume", run, "-n", std::to_string(ranks)} + more);
    ASSERT_EQ(ended.exit_code, 0) << ended.err;
  }

  // As if `run` had ended after that step.
  void copy_until(const std::string& run, const std::string& to, int step) {
    std::filesystem::copy(folder_ / run, folder_ / to, std::filesystem::copy_options::recursive);
    for (const int later : checkpoints(to)) {
      if (later > step) std::filesystem::remove_all(checkpoint(to, later));
    }
  }

  std::filesystem::path checkpoint(const std::string& run, int step) const {
    return folder_ / run / "checkpoints" / fmt::format("step-{}", step);
  }

  std::set<int> checkpoints(const std::string& run) const {
    std::set<int> steps;
    for (const auto& entry : std::filesystem::directory_iterator(folder_ / run / "checkpoints")) {
      steps.insert(std::stoi(entry.path().filename().string().substr(5)));
    }
    return steps;
  }

  std::set<std::string> tensors(const std::string& run, int step) const {
    const auto manifest = nlohmann::json::parse(read_file(checkpoint(run, step) / "manifest.json"));
    std::set<std::string> names;
    for (const auto& [name, tensor] : manifest["manifest"]["tensors"].items()) names.insert(name);
    return names;
  }

  std::vector<int> evaluations(const std::string& run) const {
    std::istringstream lines(read_file(folder_ / run / "metrics.jsonl"));
    std::vector<int> steps;
    for (std::string line; std::getline(lines, line);) {
      const auto metrics = nlohmann::json::parse(line);
      if (metrics.contains("evaluation")) steps.push_back(metrics["step"]);
    }
    return steps;
  }

  std::vector<float> weights(const std::string& run) const {
    const SafetensorsFile file(folder_ / run / "model.safetensors");
    std::vector<float> values(7);
    for (const std::string& name : file.names()) {
      if (file.info(name).count == 7) file.read(name, 0, buffer_of(std::span(values)));
    }
    return values;
  }

  std::string model(const std::string& run) const {
    return read_file(folder_ / run / "model.safetensors");
  }

  std::string log(const std::string& run) const {
    return read_file(folder_ / run / "logs" / "rank-0.log");
  }

  test::TemporaryFolder folder_;
};

class HybridForms : public HybridRun, public testing::WithParamInterface<Words> {};

TEST_P(HybridForms, GoOnFromACheckpointWithTheSameBits) {
  for (const int ranks : {1, 2, 3, 4}) {
    const std::string whole = fmt::format("whole-{}", ranks), cut = fmt::format("cut-{}", ranks);
    train(whole, ranks, GetParam());
    copy_until(whole, cut, 24);
    resume(cut, ranks);
    EXPECT_TRUE(model(cut) == model(whole)) << ranks;
  }
}

TEST_P(HybridForms, GoOnOnOtherNumbersOfRanks) {
  train("run", 4, GetParam());
  for (const int ranks : {3, 2, 1, 4}) {
    const std::string cut = fmt::format("cut-{}", ranks);
    copy_until("run", cut, 24);
    resume(cut, ranks);
    EXPECT_TRUE(checkpoints(cut).contains(40));
  }
}

TEST_P(HybridForms, FollowASynchronousRunAndAreFollowedByOne) {
  train("run", 3, {"training.steps=20"});
  EXPECT_THAT(tensors("run", 20), Not(Contains(HasSubstr("strategy."))));
  resume("run", 3, GetParam() + Words{"training.steps=40"});
  EXPECT_THAT(log("run"), HasSubstr("the checkpoint does not hold strategy.local_steps."));
  EXPECT_THAT(tensors("run", 40), Contains("strategy.local_steps.step"));
  resume("run", 2, {"communication.mode=synchronous", "training.steps=60"});
  EXPECT_THAT(tensors("run", 60), Not(Contains(HasSubstr("strategy."))));
  resume("run", 4, GetParam() + Words{"training.steps=80"});
  EXPECT_TRUE(checkpoints("run").contains(80));
}

constexpr const char* kFormNames[] = {"local_sgd", "diloco", "streaming", "in_pairs"};

INSTANTIATE_TEST_SUITE_P(Each, HybridForms,
                         testing::Values(kLocalSgd, kDiloco, kStreaming, kInPairs),
                         [](const auto& info) { return kFormNames[info.index]; });

TEST_F(HybridRun, WithOneLocalStepGoesOnAsTheSynchronousOneWould) {
  const Words sgd = {"optimizer.name=sgd", "optimizer.momentum=0.9", "training.dtype=f32"};
  train("synchronous", 3, sgd);
  copy_until("synchronous", "run", 20);
  resume("run", 3, {"communication.mode=hybrid", "communication.local_steps=1"});
  EXPECT_THAT(weights("run"),
              testing::Pointwise(testing::FloatNear(1e-5f), weights("synchronous")));
}

TEST_F(HybridRun, EvaluatesAndSavesWhenTheRanksAreInStep) {
  train("run", 3, kDiloco);
  EXPECT_THAT(evaluations("run"), ElementsAre(16, 24, 32, 40));
  EXPECT_THAT(checkpoints("run"), ElementsAre(16, 24, 32, 40));
  // Those of the streaming form never are of their own accord.
  train("streaming", 3, kStreaming);
  EXPECT_THAT(evaluations("streaming"), ElementsAre(10, 20, 30, 40));
  EXPECT_THAT(checkpoints("streaming"), ElementsAre(10, 20, 30, 40));
}

TEST_F(HybridRun, KeepsTheOptimizerStateOfEachGroup) {
  train("alone", 3, kDiloco);
  const auto alone = tensors("alone", 40);
  for (const char* prefix : {"", "group-1.", "group-2."}) {
    EXPECT_THAT(alone,
                Contains(testing::MatchesRegex(fmt::format("{}optimizer.*exp_avg", prefix))));
  }
  EXPECT_THAT(alone, Contains(testing::StartsWith("strategy.local_steps.outer_momentum.")));
  train("pairs", 4, kInPairs);
  EXPECT_THAT(tensors("pairs", 40), Contains(HasSubstr("group-1.optimizer.")));
  EXPECT_THAT(tensors("pairs", 40), Not(Contains(HasSubstr("group-2."))));
}

TEST_F(HybridRun, StopsInStepAndGoesOnWithTheSameBits) {
  const Words words = {"train",
                       "-n",
                       "3",
                       "training.steps=600000",
                       "training.threads=1",
                       "data.samples=500",
                       "training.global_batch=24",
                       "run.directory=cut",
                       "checkpoint.every_steps=8"};
  {
    Program program(folder_.path(), words + kDiloco);
    program.wait_for(folder_ / "cut/logs/rank-0.log", "checkpoint cut/checkpoints/step-8");
    ::kill(program.pid(), SIGINT);
    EXPECT_EQ(program.wait().exit_code, 130);
  }
  const int stopped = *checkpoints("cut").rbegin();
  EXPECT_EQ(stopped % 8, 0);
  const std::string end = fmt::format("training.steps={}", stopped + 80);
  resume("cut", 3, {end});
  const Ended whole =
      run_program(folder_.path(), words + kDiloco + Words{"run.directory=whole", end});
  EXPECT_EQ(whole.exit_code, 0) << whole.err;
  EXPECT_TRUE(model("cut") == model("whole"));
}

TEST_F(HybridRun, EndsWithTheErrorOfTheOneRankThatDiverged) {
  // The last row is rank 2's, and its square is no f32.
  std::string table = "x,y\n";
  for (int row = 0; row < 59; ++row) table += fmt::format("{},{}\n", row % 7, row % 7);
  write_file_atomically(folder_ / "table.csv", table + "1e30,1\n");
  const Ended ended = run_program(
      folder_.path(), Words{"train", "-n", "3", "data.format=csv", "data.path=table.csv",
                            "data.target=y", "data.sampler=block", "training.global_batch=12",
                            "training.steps=100", "communication.mode=hybrid",
                            "communication.local_steps=50", "communication.timeout=20"});
  EXPECT_EQ(ended.exit_code, 5) << ended.err;
  EXPECT_THAT(ended.err, HasSubstr("training diverged: the loss of step 5 is inf"));
  EXPECT_THAT(ended.err, HasSubstr("the first parameter with a bad gradient is"));
}

TEST_F(HybridRun, RefusesWhatCannotBe) {
  const auto refused = [&](const Words& words, const std::string& why) {
    const Ended ended = try_train("run", 2, kDiloco + words);
    EXPECT_EQ(ended.exit_code, 2);
    EXPECT_THAT(ended.err, HasSubstr(why));
    EXPECT_FALSE(std::filesystem::exists(folder_ / "run"));
  };
  refused({"parallelism.strategy=host_shared"}, "use parallelism.strategy = \"replicated\"");
  refused({"communication.delay=8"}, "communication.delay must be less than the 8");
  refused({"communication.fragments=9"}, "communication.fragments must be at most the 8");
  refused({"communication.mix=1"}, "communication.mix must be");
}

}  // namespace
}  // namespace trireme
