// From a text to a model that writes: `trireme train` on tokens, `trireme generate`.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/cli/program.h"
#include "trireme/base/files.h"

namespace trireme::test {
namespace {

using testing::HasSubstr;
using testing::StartsWith;
using Words = std::vector<std::string>;

class Generate : public testing::Test {
 protected:
  void SetUp() override {
    std::ofstream text(folder_ / "text.txt");
    for (int i = 0; i < 120; ++i) text << "ab\xC3\xA9" << (i % 3 == 0 ? "a\n" : "b ");
  }

  Ended train(const Words& more, const std::string& directory = "run", int ranks = 1) const {
    Words words = {"train",
                   "-n",
                   std::to_string(ranks),
                   "run.directory=" + directory,
                   "data.format=text",
                   "data.path=text.txt",
                   "model.name=gpt2",
                   "model.layers=1",
                   "model.width=16",
                   "model.heads=2",
                   "model.context=8",
                   "training.steps=6",
                   "training.global_batch=6"};
    std::ofstream(folder_ / "empty.toml") << "";
    words.insert(words.begin() + 1, "empty.toml");
    words.insert(words.end(), more.begin(), more.end());
    return run_program(folder_.path(), words);
  }

  Ended generate(Words words) const {
    words.insert(words.begin(), {"generate", "run"});
    return run_program(folder_.path(), words);
  }

  // Expects an error with this exit code and text.
  static void expect_refused(const Ended& ended, int exit_code, const std::string& text) {
    EXPECT_EQ(ended.exit_code, exit_code) << ended.err;
    EXPECT_THAT(ended.err, HasSubstr(text));
    EXPECT_EQ(ended.out, "");
  }

  TemporaryFolder folder_;
};

TEST_F(Generate, ContinuesPromptsOfAModelThatWasTrained) {
  const Ended trained = train({"data.holdout=0.2", "--json"});
  ASSERT_EQ(trained.exit_code, 0) << trained.err;
  const auto summary = nlohmann::json::parse(trained.out);
  EXPECT_GT(summary["evaluation"]["perplexity"], 1);
  EXPECT_GT(summary["evaluation"]["bits_per_byte"], 0);
  EXPECT_GT(summary["tokens_per_second"], 0);

  const Ended plain = generate({"ab", "-n", "12", "--seed", "4"});
  EXPECT_EQ(plain.exit_code, 0) << plain.err;
  EXPECT_THAT(plain.out, StartsWith("ab"));
  EXPECT_EQ(generate({"ab", "-n", "12", "--seed", "4"}).out, plain.out);
  const auto json =
      nlohmann::json::parse(generate({"ab", "-n", "12", "--seed", "4", "--json"}).out);
  EXPECT_EQ("ab" + json["text"].get<std::string>() + "\n", plain.out);
  // The same from a file, and from standard input's name for one.
  std::ofstream(folder_ / "prompt") << "ab";
  EXPECT_EQ(generate({"--prompt-file", "prompt", "-n", "12", "--seed", "4"}).out, plain.out);
  const std::string first = json["text"].get<std::string>().substr(0, 1);
  if (static_cast<unsigned char>(first[0]) < 0x80) {
    EXPECT_EQ(generate({"ab", "-n", "12", "--seed", "4", "--stop", first}).out, "ab\n");
  }

  expect_refused(generate({"abx"}), 3, "'x' (U+0078)");
  expect_refused(generate({"ab", "--top-p", "0"}), 2, "top_p must be above 0");
  expect_refused(generate({"ab", "--stop", "aba"}), 2, "must be one token of the model, is 3");
  expect_refused(generate({"ab", "--weights", "no.safetensors"}), 3, "no.safetensors");
  expect_refused(run_program(folder_.path(), {"generate", "nowhere", "ab"}), 3, "nowhere");
}

TEST_F(Generate, RefusesARunOfAnotherModel) {
  std::ofstream(folder_ / "linear.toml") << "[training]\nsteps = 2\n";
  ASSERT_EQ(run_program(folder_.path(), {"train", "linear.toml", "-n", "1"}).exit_code, 0);
  expect_refused(generate({"ab"}), 2, "did not train a model of tokens");
}

TEST_F(Generate, TrainingHasTheSameBitsOnAnyNumberOfRanksAndRecomputed) {
  const Words options = {"training.virtual_workers=6", "model.dropout=0.2", "data.holdout=0.2",
                         "data.documents=line"};
  Words other = options;
  other.push_back("parallelism.recompute=full");
  for (const char* name : {"gpt2", "llama"}) {
    Words first = options, second = other;
    first.push_back(std::string("model.name=") + name);
    second.push_back(std::string("model.name=") + name);
    const std::string a = std::string("a-") + name, b = std::string("b-") + name;
    ASSERT_EQ(train(first, a, 1).exit_code, 0);
    ASSERT_EQ(train(second, b, 3).exit_code, 0);
    EXPECT_TRUE(read_file(folder_ / (a + "/model.safetensors")) ==
                read_file(folder_ / (b + "/model.safetensors")));
  }
}

TEST_F(Generate, BadConfigurationsAreRefusedBeforeTraining) {
  expect_refused(train({"model.vocabulary=3"}), 2, "at least the 6 tokens of the data's tokenizer");
  expect_refused(train({"model.width=15"}), 2, "model.width must be a multiple of the 2");
  expect_refused(train({"model.name=llama", "model.kv_heads=3", "model.heads=4"}), 2,
                 "model.kv_heads must divide the 4");
  expect_refused(train({"model.name=mlp"}), 2, "model.layers");
  expect_refused(train({"data.tokenizer=none.json"}), 3, "data.tokenizer: no such file");
  expect_refused(train({"data.path=nowhere.txt"}), 3, "data.path: no such file");
  expect_refused(train({"data.format=tokens"}), 3, "text.txt");
  std::ofstream(folder_ / "text.txt") << "ab\xFF";
  expect_refused(train({}), 3, "UTF-8");
  EXPECT_FALSE(std::filesystem::exists(folder_ / "run/model.safetensors"));
}

}  // namespace
}  // namespace trireme::test
