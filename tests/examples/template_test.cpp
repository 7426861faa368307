// What `trireme init` writes works as it is.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/examples/example_folder.h"
#include "trireme/base/files.h"

namespace trireme::test {
namespace {

using testing::Gt;
using testing::HasSubstr;
using testing::Lt;

class Templates : public testing::TestWithParam<std::string> {};

TEST_P(Templates, PassADryRun) {
  const ExampleFolder folder;
  write_file_atomically(folder / "run.toml", folder.trireme({"init", GetParam()}).out);
  const Ended dry = folder.trireme({"train", "run.toml", "-n", "3", "--dry-run"});
  const std::string model = GetParam() == "gpt" ? "gpt2" : GetParam();
  EXPECT_THAT(dry.out, HasSubstr("name = '" + model + "'"));
  EXPECT_FALSE(std::filesystem::exists(folder / "run"));
}

INSTANTIATE_TEST_SUITE_P(Each, Templates, testing::Values("linear", "mlp", "cnn", "gpt"),
                         [](const auto& info) { return info.param; });

TEST_P(Templates, FindTheirDataFromAnyFolder) {
  const TemporaryFolder elsewhere;
  write_file_atomically(elsewhere / "run.toml",
                        run_program(elsewhere.path(), {"init", GetParam()}).out);
  const TemporaryFolder other;
  const Ended dry = run_program(
      other.path(), {"train", (elsewhere / "run.toml").string(), "-n", "2", "--dry-run"});
  EXPECT_EQ(dry.exit_code, 0) << dry.err;
}

TEST(LinearTemplate, TrainsAsItIs) {
  const ExampleFolder folder;
  write_file_atomically(folder / "run.toml", folder.trireme({"init", "linear"}).out);
  folder.trireme({"train", "run.toml", "-n", "2"});
  EXPECT_THAT(metric(folder / "run", "/evaluation/r2").back(), Gt(0.999));
}

TEST(GptTemplate, TrainsOnAGeneratedTextAndWrites) {
  const ExampleFolder folder;
  write_file_atomically(folder / "run.toml", folder.trireme({"init", "gpt"}).out);
  const Ended run = folder.trireme({"train", "run.toml", "-n", "2", "data.path=", "model.layers=2",
                                    "model.width=32", "training.steps=150", "optimizer.lr=0.01",
                                    "evaluation.every_steps=150", "--json"});
  // Of 37 characters: 5.2 bits if all were equally likely.
  EXPECT_THAT(metric(folder / "run", "/evaluation/bits_per_byte").back(), Lt(3.0));
  EXPECT_THAT(run.out, HasSubstr("\"sample_text\": "));
  const Ended text = folder.trireme({"generate", "run", "Th", "-n", "20", "-t", "0"});
  EXPECT_EQ(text.out.size(), 23u) << text.out;
  EXPECT_EQ(folder.trireme({"generate", "run", "Th", "-n", "20", "-t", "0"}).out, text.out);
}

}  // namespace
}  // namespace trireme::test
