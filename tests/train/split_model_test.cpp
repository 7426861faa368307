// Runs whose model is in several files (checkpoint.model_file_bytes).

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>

#include "tests/formats/tensor_bytes.h"
#include "tests/train/runs.h"
#include "trireme/base/error.h"
#include "trireme/base/files.h"
#include "trireme/train/language_model.h"

namespace trireme::test {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::ThrowsMessage;

constexpr const char* kPart = "checkpoint.model_file_bytes=160";
constexpr const char* kIndex = "model.safetensors.index.json";

// The first layer has 140 and 20 bytes, the second one 20 and 4.
class SplitModel : public testing::Test {
 protected:
  std::vector<std::string> model_files(const std::string& run) const {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(runs_ / run)) {
      const std::string name = entry.path().filename().string();
      if (name.starts_with("model")) names.push_back(name);
    }
    std::ranges::sort(names);
    return names;
  }

  void expect_first_parts(const std::string& run) const {
    EXPECT_THAT(model_files(run), ElementsAre("model-00001-of-00002.safetensors",
                                              "model-00002-of-00002.safetensors", kIndex));
  }

  std::map<std::string, std::string> whole(const std::string& run) const {
    return tensor_bytes(runs_ / run / "model.safetensors");
  }
  std::map<std::string, std::string> split(const std::string& run) const {
    return tensor_bytes_by_index(runs_ / run / kIndex);
  }

  Runs runs_{{"data.samples=200", "data.features_count=7", "training.global_batch=24",
              "training.virtual_workers=12", "training.steps=6", "model.name=mlp",
              "model.hidden=[5]"}};
};

TEST_F(SplitModel, HasTheTensorsOfOneFileOnAnyNumberOfRanks) {
  runs_.train("whole", 1);
  for (const int ranks : {1, 2, 3}) {
    runs_.train("split", ranks, {kPart});
    expect_first_parts("split");
    EXPECT_EQ(split("split"), whole("whole")) << ranks << " ranks";
  }
  const auto index = nlohmann::json::parse(read_file(runs_ / "split" / kIndex));
  EXPECT_EQ(index["metadata"]["total_size"], (5 * 7 + 5 + 5 + 1) * 4);
}

TEST_F(SplitModel, IsWhatAnotherRunBeginsWith) {
  runs_.train("whole", 1);
  runs_.train("split", 1, {kPart});
  runs_.train("from-whole", 2, {"model.weights=" + (runs_ / "whole/model.safetensors").string()});
  for (const std::string& name : {std::string("model.safetensors"), std::string(kIndex)}) {
    const Words words = {"model.weights=" + (runs_ / "split" / name).string()};
    runs_.train("from-split", 2, words);
    EXPECT_EQ(runs_.model("from-split"), runs_.model("from-whole")) << name;
    EXPECT_THAT([&] { runs_.train("split", 2, words); },
                ThrowsMessage<UsageError>(HasSubstr("must lie outside of run.directory")));
    expect_first_parts("split");
  }
}

TEST_F(SplitModel, OfAResumedRunReplacesEitherFormByEither) {
  runs_.train("whole", 2, {"training.steps=9"});
  runs_.train("run", 2);
  for (const Words& words : {Words{kPart}, Words{kPart}, Words{}, Words{kPart}}) {
    runs_.resume("run", 2, words + Words{"training.steps=9"});
    EXPECT_EQ(model_files("run").size(), words.empty() ? 1u : 3u);
    EXPECT_EQ(words.empty() ? whole("run") : split("run"), whole("whole"));
  }
}

TEST_F(SplitModel, OfAnEarlierRunIsGoneWhereTheNextOneStops) {
  const Words seed = {"training.seed=3"};
  for (const bool was_split : {false, true}) {
    runs_.train("run", 2, was_split ? Words{kPart} : Words{});
    runs_.train("run", 2, was_split ? seed : seed + Words{kPart}, {.step = 3});
    EXPECT_THAT(model_files("run"), ElementsAre()) << "interrupted";
    runs_.resume("run", 2, was_split ? seed : seed + Words{kPart});
    EXPECT_EQ(model_files("run").size(), was_split ? 1u : 3u);
  }
}

TEST_F(SplitModel, LosesWhatAKilledRunHasNotFinished) {
  runs_.train("run", 1, {kPart});
  const std::vector<std::string> left = {
      "model.2-00001-of-00002.safetensors", "model-00001-of-00003.safetensors",
      "model-00002-of-00003.safetensors.partial-17", "model.safetensors.index.json.partial-17"};
  for (const std::string& name : left) std::ofstream(runs_ / "run" / name) << "torn";
  const auto model = split("run");
  runs_.resume("run", 2, {kPart});
  EXPECT_EQ(split("run"), model);
  EXPECT_EQ(model_files("run").size(), 3u) << testing::PrintToString(model_files("run"));
}

TEST(SplitModelOfTokens, WritesWhatThatInOneFileWrites) {
  const TemporaryFolder folder;
  std::ofstream text(folder.path() / "text.txt");
  for (int i = 0; i < 120; ++i) text << "ab" << (i % 3 == 0 ? "a\n" : "b ");
  text.close();
  Runs runs({"data.format=text", "data.path=" + (folder.path() / "text.txt").string(),
             "model.name=gpt2", "model.layers=1", "model.width=16", "model.heads=2",
             "model.context=8", "training.steps=3", "training.global_batch=6",
             "training.virtual_workers=2"});
  runs.train("whole", 1);
  // Only in training a rank does without the whole model.
  runs.train("split", 2, {"checkpoint.model_file_bytes=2000", "parallelism.shard=3"});
  EXPECT_FALSE(std::filesystem::exists(runs / "split/model.safetensors"));
  const auto tokens = [](const std::filesystem::path& run, const std::filesystem::path& weights) {
    return LanguageModel(run, weights).generate("ab", {.tokens = 20, .seed = 4}).tokens;
  };
  const auto wanted = tokens(runs / "whole", {});
  EXPECT_FALSE(wanted.empty());
  EXPECT_EQ(tokens(runs / "split", {}), wanted);
  EXPECT_EQ(tokens(runs / "whole", runs / ("split/" + std::string(kIndex))), wanted);
}

}  // namespace
}  // namespace trireme::test
