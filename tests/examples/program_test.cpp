// Programs of a user's own, on several numbers of ranks.

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/examples/example_folder.h"
#include "trireme/base/files.h"

namespace trireme::test {
namespace {

using testing::HasSubstr;

class ProgramExamples : public testing::Test {
 protected:
  Ended on_ranks(int ranks, std::vector<std::string> command) const {
    command.front() = example_program(command.front());
    command.insert(command.begin(), {"run", "-n", std::to_string(ranks)});
    return folder_.trireme(command);
  }

  ExampleFolder folder_;
};

TEST_F(ProgramExamples, CoreAddsUpOverTheRanks) {
  for (const int ranks : {1, 2, 3, 4}) {
    EXPECT_THAT(on_ranks(ranks, {"core"}).out,
                HasSubstr(fmt::format("= {}, a million times", ranks * (ranks + 1) / 2)));
  }
}

TEST_F(ProgramExamples, ReadmeLearnsOnTheRanks) {
  for (const int ranks : {1, 3}) {
    EXPECT_THAT(on_ranks(ranks, {"readme"}).out, HasSubstr(fmt::format("on {} ranks", ranks)));
  }
}

TEST_F(ProgramExamples, OwnModuleIsTheSameOnAnyNumberOfRanks) {
  std::vector<std::string> models;
  for (const int ranks : {1, 3}) {
    const std::string model = fmt::format("digits-{}.safetensors", ranks);
    const std::string out =
        on_ranks(ranks, {"own_module", ".cache/data/digits/digits.csv.gz", model}).out;
    const std::size_t place = out.find("accuracy ");
    ASSERT_NE(place, std::string::npos) << out;
    EXPECT_GE(std::stod(out.substr(place + 9)), 95) << out;
    models.push_back(read_file(folder_ / model));
  }
  EXPECT_TRUE(models[0] == models[1]);
}

TEST_F(ProgramExamples, OwnBlocksAreTheSameOnAnyNumberOfRanksAndRecomputed) {
  const std::string text = std::string(TRIREME_SOURCES) + "/README.md";
  const std::string out = on_ranks(1, {"own_blocks", text}).out;
  const std::size_t place = out.rfind("= ");
  ASSERT_NE(place, std::string::npos) << out;
  EXPECT_LT(std::stod(out.substr(place + 2)), 2.8);
  EXPECT_EQ(on_ranks(3, {"own_blocks", text, "recompute"}).out, out);
}

TEST_F(ProgramExamples, OwnLoopHasTheSameBitsHoweverOftenItWasStopped) {
  on_ranks(1, {"own_loop", "whole", "90"});
  const std::string whole = read_file(folder_ / "whole/model.safetensors");
  EXPECT_THAT(on_ranks(2, {"own_loop", "cut", "35"}).out, HasSubstr("from step 0 on 2 ranks"));
  EXPECT_THAT(on_ranks(3, {"own_loop", "cut", "50"}).out, HasSubstr("from step 35 on 3 ranks"));
  EXPECT_THAT(on_ranks(2, {"own_loop", "cut", "90"}).out, HasSubstr("from step 50 on 2 ranks"));
  EXPECT_TRUE(read_file(folder_ / "cut/model.safetensors") == whole);
}

}  // namespace
}  // namespace trireme::test
