// `trireme find-lr`: what it prints, writes and leaves alone, and what it refuses before it starts.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/cli/program.h"
#include "trireme/base/files.h"

namespace trireme::test {
namespace {

using nlohmann::json;
using testing::AllOf;
using testing::EndsWith;
using testing::HasSubstr;
using testing::StartsWith;

constexpr int kUsage = 2;

using Words = std::vector<std::string>;

const std::string kBeforeRate =
    "# my run\n[run]\ndirectory = \"out\"\n[data]\nsamples = 600\nfeatures_count = 5\n"
    "[training]\nglobal_batch = 120\nvirtual_workers = 12\n\n[optimizer]   # tuned\nlr =  ";
const std::string kAfterRate = "   # by hand\nname = \"sgd\"\n";

class FindLr : public testing::Test {
 protected:
  FindLr() { write_file_atomically(folder_ / "run.toml", kBeforeRate + "0.5" + kAfterRate); }

  Ended find_lr(const Words& more) const {
    Words words = {"find-lr", "run.toml", "--from", "1e-4", "--steps", "40"};
    words.insert(words.end(), more.begin(), more.end());
    return run_program(folder_.path(), words);
  }

  std::string file() const { return read_file(folder_ / "run.toml"); }

  TemporaryFolder folder_;
};

TEST_F(FindLr, PrintsTheCurveAndARateWithItsReasonAndWritesNothing) {
  const std::string before = file();
  const Ended ended = find_lr({"-n", "2"});
  ASSERT_EQ(ended.exit_code, 0) << ended.err;
  EXPECT_EQ(ended.err, "");
  EXPECT_THAT(ended.out, AllOf(HasSubstr("loss over learning rate   * smoothed   . 3 repeats   | "),
                               HasSubstr("\noptimizer.lr = 0.0")));
  EXPECT_THAT(ended.out, AllOf(HasSubstr(": the loss falls fastest there, from "),
                               HasSubstr(" on the loss rises; 3 repeats by themselves: ")));
  EXPECT_EQ(file(), before);
  EXPECT_FALSE(std::filesystem::exists(folder_ / "out"));
}

TEST_F(FindLr, HasTheSameCurveOnAnyNumberOfRanksAndPrintsJson) {
  json one;
  for (const char* ranks : {"1", "2", "3"}) {
    const Ended ended = find_lr({"-n", ranks, "--json", "--repeats", "2", "--to", "5"});
    ASSERT_EQ(ended.exit_code, 0) << ended.err;
    json report = json::parse(ended.out);
    EXPECT_EQ(report["operation"], "find-lr");
    EXPECT_EQ(report["ranks"], std::stoi(ranks));
    EXPECT_EQ(report["virtual_workers"], 12);
    EXPECT_EQ(report["to"], 5.0);
    ASSERT_EQ(report["repeats"].size(), 2u);
    EXPECT_LE(report["steps"], 80);
    EXPECT_EQ(report["lr_of_repeats"].size(), 2u);
    EXPECT_LT(report["lr"], report["edge_lr"]);
    report.erase("ranks");
    report.erase("seconds");
    if (one.is_null()) one = report;
    EXPECT_EQ(report, one) << ranks << " ranks";
  }
}

TEST_F(FindLr, WritesTheRateIntoItsPlaceAndTheCurveIntoAFile) {
  ::chmod((folder_ / "run.toml").c_str(), 0600);
  std::filesystem::rename(folder_ / "run.toml", folder_ / "mine.toml");
  std::filesystem::create_symlink("mine.toml", folder_ / "run.toml");
  const Ended ended = find_lr({"-n", "2", "--write", "--json", "--svg", "curve.svg"});
  ASSERT_EQ(ended.exit_code, 0) << ended.err;
  const double lr = json::parse(ended.out)["lr"];
  const std::string now = file();
  EXPECT_THAT(now, AllOf(StartsWith(kBeforeRate), EndsWith(kAfterRate)));
  const std::string value =
      now.substr(kBeforeRate.size(), now.size() - kBeforeRate.size() - kAfterRate.size());
  EXPECT_EQ(std::stod(value), lr);
  EXPECT_TRUE(std::filesystem::is_symlink(folder_ / "run.toml"));
  struct stat status {};
  ::stat((folder_ / "mine.toml").c_str(), &status);
  EXPECT_EQ(status.st_mode & 0777, 0600u);
  EXPECT_THAT(read_file(folder_ / "curve.svg"),
              AllOf(StartsWith("<?xml"), HasSubstr("suggested: "), HasSubstr("edge: ")));
}

TEST_F(FindLr, EndsWith2AndLeavesTheFileIfNoRateCanBeSuggested) {
  const std::string before = file();
  const Ended ended = find_lr({"--to", "1e-3", "--write"});
  EXPECT_EQ(ended.exit_code, kUsage);
  EXPECT_THAT(ended.err, StartsWith("trireme: find-lr: no learning rate is suggested: the loss "
                                    "never falls by more than its noise"));
  EXPECT_EQ(std::ranges::count(ended.err, '\n'), 1);
  EXPECT_EQ(file(), before);
}

TEST_F(FindLr, TakesTheRanksOfTheLauncherThatStartedIt) {
  const Ended ended =
      run_program(folder_.path(), {"run", "-n", "3", TRIREME_PROGRAM, "find-lr", "run.toml",
                                   "--from", "1e-4", "--repeats", "1", "--json"});
  ASSERT_EQ(ended.exit_code, 0) << ended.err;
  EXPECT_EQ(json::parse(ended.out)["ranks"], 3);
}

struct Refusal {
  const char* name;
  Words words;
  std::string message;
};

class FindLrRefusals : public FindLr, public testing::WithParamInterface<Refusal> {};

TEST_P(FindLrRefusals, AreOneLineBeforeAnythingRuns) {
  const Ended ended = find_lr(GetParam().words);
  EXPECT_EQ(ended.exit_code, kUsage);
  EXPECT_EQ(ended.out, "");
  EXPECT_THAT(ended.err, AllOf(StartsWith("trireme: "), HasSubstr(GetParam().message)));
  EXPECT_EQ(std::ranges::count(ended.err, '\n'), 1) << ended.err;
}

INSTANTIATE_TEST_SUITE_P(
    FindLr, FindLrRefusals,
    testing::Values(
        Refusal{"NoRange", {"--to", "1e-4"}, "the rates must go from a positive one to a higher"},
        Refusal{"SecondFile", {"other.toml"}, "got \"other.toml\" as well as \"run.toml\""},
        Refusal{"RateThatIsNotUsed",
                {"--write", "lr_scheduler.name=one_cycle", "lr_scheduler.max_lr=0.1"},
                "lr_scheduler.max_lr is used; leave lr_scheduler.max_lr out"},
        Refusal{"ForeignServers",
                {"communication.mode=asynchronous", "communication.servers=[\"tcp://a:1\"]"},
                "the servers of communication.servers would keep what the test teaches them"}),
    [](const auto& info) { return info.param.name; });

TEST(FindLrOfNoFile, IsNothingToWriteInto) {
  const TemporaryFolder folder;
  const Ended ended = run_program(folder.path(), {"find-lr", "optimizer.lr=0.1", "--write"});
  EXPECT_EQ(ended.exit_code, kUsage);
  EXPECT_THAT(ended.err, HasSubstr("--write needs a configuration file to write into"));
}

}  // namespace
}  // namespace trireme::test
