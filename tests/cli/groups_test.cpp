// Groups of parameters in runs of the program: the same bits in every synchronous strategy and on
// any number of ranks, and after a resume.

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <map>

#include "tests/cli/program.h"
#include "trireme/base/files.h"
#include "trireme/formats/safetensors.h"

namespace trireme {
namespace {

using test::Ended;
using test::run_program;
using testing::HasSubstr;

using Words = std::vector<std::string>;

const Words kGroups = {
    "optimizer.groups=[{match=\"layers.0.*\", trainable=false}, {kind=\"bias_and_norm\", "
    "weight_decay=0}, {match=\"*.weight\", lr_factor=0.5, betas=[0.8, 0.9]}]"};

class GroupsRun : public testing::Test {
 protected:
  Ended try_train(const std::string& run, int ranks, const Words& more) {
    Words words = {"train",
                   "-n",
                   std::to_string(ranks),
                   "data.samples=300",
                   "data.features_count=20",
                   "model.name=mlp",
                   "model.hidden=[30, 20]",
                   "training.global_batch=24",
                   "training.virtual_workers=12",
                   "training.threads=1",
                   "training.steps=20",
                   "training.clip_norm=0.5",
                   "checkpoint.every_steps=10",
                   "optimizer.name=adamw",
                   "optimizer.weight_decay=0.1",
                   "run.directory=" + run};
    words.insert(words.end(), more.begin(), more.end());
    return run_program(folder_.path(), words);
  }

  std::map<std::string, std::string> train(const std::string& run, int ranks, const Words& more) {
    const Ended ended = try_train(run, ranks, more);
    EXPECT_EQ(ended.exit_code, 0) << ended.err;
    return model(run);
  }

  std::map<std::string, std::string> model(const std::string& run) const {
    const SafetensorsFile file(folder_ / run / "model.safetensors");
    std::map<std::string, std::string> tensors;
    for (const std::string& name : file.names()) tensors[name] = file.bytes(name);
    return tensors;
  }

  test::TemporaryFolder folder_;
};

TEST_F(GroupsRun, HasTheSameBitsInEveryStrategyAndOnAnyNumberOfRanks) {
  const auto wanted = train("one", 1, kGroups);
  for (const char* strategy : {"replicated", "host_shared", "parameter_server"}) {
    Words words = kGroups;
    words.push_back(fmt::format("parallelism.strategy={}", strategy));
    EXPECT_EQ(train(strategy, 3, words), wanted) << strategy;
  }
  EXPECT_NE(train("plain", 1, {}), wanted);
}

TEST_F(GroupsRun, ResumesWithTheSameBitsAndGroups) {
  const auto wanted = train("whole", 2, kGroups);
  train("cut", 2, kGroups);
  std::filesystem::remove_all(folder_ / "cut/checkpoints/step-20");
  const Ended ended = run_program(folder_.path(), {"train", "--resume", "cut", "-n", "3"});
  ASSERT_EQ(ended.exit_code, 0) << ended.err;
  EXPECT_EQ(model("cut"), wanted);
  EXPECT_THAT(read_file(folder_ / "cut/config.toml"), HasSubstr("kind = 'bias_and_norm'"));
}

TEST_F(GroupsRun, OfLambAndMuonHasTheSameBitsOnAnyNumberOfRanksAndServersAndResumes) {
  for (const std::string name : {"lamb", "muon"}) {
    Words words = kGroups;
    words.push_back("optimizer.name=" + name);
    const auto wanted = train(name + "-one", 1, words);
    EXPECT_EQ(train(name, 3, words), wanted) << name;
    std::filesystem::remove_all(folder_ / name / "checkpoints/step-20");
    const Ended ended = run_program(folder_.path(), {"train", "--resume", name, "-n", "2"});
    ASSERT_EQ(ended.exit_code, 0) << ended.err;
    EXPECT_EQ(model(name), wanted) << name;
    words.push_back("parallelism.strategy=parameter_server");
    words.push_back("communication.server_shards=2");
    EXPECT_EQ(train(name + "-servers", 2, words), wanted) << name;
    words.back() = "parallelism.strategy=host_shared";
    const Ended refused = try_train(name + "-shared", 2, words);
    EXPECT_EQ(refused.exit_code, 2) << refused.err;
    EXPECT_THAT(refused.err, HasSubstr("it updates whole parameters"));
  }
}

TEST_F(GroupsRun, KeepsFrozenParametersAtTheirInitialValues) {
  Words fewer_steps = kGroups;
  fewer_steps.push_back("training.steps=3");
  const auto model = train("run", 2, kGroups), other = train("short", 2, fewer_steps);
  EXPECT_EQ(model.at("layers.0.weight"), other.at("layers.0.weight"));
  EXPECT_EQ(model.at("layers.0.bias"), other.at("layers.0.bias"));
  EXPECT_NE(model.at("layers.1.weight"), other.at("layers.1.weight"));
}

}  // namespace
}  // namespace trireme
