// What `trireme init` writes works as it is.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/examples/example_folder.h"
#include "trireme/base/files.h"

namespace trireme::test {
namespace {

using testing::Gt;
using testing::HasSubstr;

class Templates : public testing::TestWithParam<std::string> {};

TEST_P(Templates, PassADryRun) {
  const ExampleFolder folder;
  write_file_atomically(folder / "run.toml", folder.trireme({"init", GetParam()}).out);
  const Ended dry = folder.trireme({"train", "run.toml", "-n", "3", "--dry-run"});
  EXPECT_THAT(dry.out, HasSubstr("name = '" + GetParam() + "'"));
  EXPECT_FALSE(std::filesystem::exists(folder / "run"));
}

INSTANTIATE_TEST_SUITE_P(Each, Templates, testing::Values("linear", "mlp", "cnn"),
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

}  // namespace
}  // namespace trireme::test
