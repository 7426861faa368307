// What becomes of a run that is killed, stopped, starved of disk or diverges.

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>

#include <chrono>
#include <cstdlib>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>
#include <thread>

#include "tests/cli/program.h"
#include "tests/comm/loopback.h"
#include "tests/train/words.h"
#include "trireme/base/files.h"

namespace trireme::test {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;
using testing::StartsWith;

// Long enough that it ends before its time in every test here.
std::vector<std::string> long_run(int ranks, std::vector<std::string> more = {}) {
  std::vector<std::string> words = {"train",
                                    "-n",
                                    std::to_string(ranks),
                                    "training.steps=2000000",
                                    "training.global_batch=16",
                                    "data.samples=1000",
                                    "metrics.every_steps=10",
                                    "evaluation.every_epochs=0",
                                    "run.directory=out"};
  words.insert(words.end(), more.begin(), more.end());
  return words;
}

// Waits half a minute at most.
bool begins_to_listen(int port) {
  for (int i = 0; i < 3000; ++i) {
    if (connected_to(port).is_open()) return true;
    std::this_thread::sleep_for(10ms);
  }
  return false;
}

bool is_gone(pid_t pid) {
  std::ifstream stat(fmt::format("/proc/{}/stat", pid));
  std::string number, name, state;
  stat >> number >> name >> state;
  return state.empty() || state == "Z";
}

void expect_gone(const std::vector<pid_t>& ranks) {
  for (const pid_t rank : ranks) {
    for (int i = 0; i < 1000 && !is_gone(rank); ++i) std::this_thread::sleep_for(10ms);
    EXPECT_TRUE(is_gone(rank)) << "process " << rank << " was left behind";
  }
}

std::vector<nlohmann::json> metrics_of(const std::filesystem::path& run) {
  std::istringstream in(read_file(run / "metrics.jsonl"));
  std::vector<nlohmann::json> lines;
  for (std::string line; std::getline(in, line);) lines.push_back(nlohmann::json::parse(line));
  return lines;
}

class Failure : public testing::Test {
 protected:
  void wait_for_steps(Program& program, int ranks) {
    for (int rank = 0; rank < ranks; ++rank) {
      program.wait_for(fmt::format("out/logs/rank-{}.log", rank), "step 10/");
    }
  }

  TemporaryFolder folder_;
};

class FatalSignal : public Failure, public testing::WithParamInterface<std::tuple<int, int>> {};

TEST_P(FatalSignal, OfOneRankEndsAllAndNamesIt) {
  const auto [signal, at_fault] = GetParam();
  ::setenv("ASAN_OPTIONS", "handle_segv=0", 1);  // it would exit instead of dying of the signal
  Program program(folder_.path(), long_run(3), Start::kFile);
  wait_for_steps(program, 3);
  const auto ranks = children_of(program.pid());
  ASSERT_EQ(ranks.size(), 3u);
  ::kill(ranks[static_cast<std::size_t>(at_fault)], signal);
  const Ended ended = program.wait();
  EXPECT_EQ(ended.exit_code, 128 + signal);
  EXPECT_THAT(ended.err, HasSubstr(fmt::format("│ rank {} of 3: killed by SIG", at_fault)));
  EXPECT_THAT(ended.err, HasSubstr(fmt::format("│ log: out/logs/rank-{}.log", at_fault)));
  EXPECT_EQ(ended.err.find("┌"), ended.err.rfind("┌")) << "one box is wanted: " << ended.err;
  EXPECT_EQ(ended.out, "");
  expect_gone(ranks);
}

INSTANTIATE_TEST_SUITE_P(Cli, FatalSignal,
                         testing::Values(std::tuple(SIGKILL, 0), std::tuple(SIGKILL, 2),
                                         std::tuple(SIGSEGV, 2), std::tuple(SIGABRT, 0)));

TEST_F(Failure, OfTheLauncherLeavesNothingBehind) {
  Program program(folder_.path(), long_run(3));
  wait_for_steps(program, 3);
  const auto ranks = children_of(program.pid());
  ASSERT_EQ(ranks.size(), 3u);
  ::kill(program.pid(), SIGKILL);
  EXPECT_EQ(program.wait().exit_code, 128 + SIGKILL);
  expect_gone(ranks);
}

TEST_F(Failure, ARankThatPausesHoldsTheOthersUpAndNoMore) {
  Program program(folder_.path(), long_run(2, {"training.steps=20000"}));
  wait_for_steps(program, 2);
  const auto ranks = children_of(program.pid());
  ASSERT_EQ(ranks.size(), 2u);
  ::kill(ranks[1], SIGSTOP);
  std::this_thread::sleep_for(300ms);
  ::kill(ranks[1], SIGCONT);
  const Ended ended = program.wait();
  EXPECT_EQ(ended.exit_code, 0) << ended.err;
}

TEST_F(Failure, ARankThatHangsIsNamedWithinTheTimeout) {
  Program program(folder_.path(), long_run(2, {"communication.timeout=1"}));
  wait_for_steps(program, 2);
  const auto ranks = children_of(program.pid());
  ASSERT_EQ(ranks.size(), 2u);
  ::kill(ranks[1], SIGSTOP);
  const Ended ended = program.wait();
  EXPECT_EQ(ended.exit_code, 4) << ended.err;
  EXPECT_THAT(ended.err, HasSubstr("rank 1 did not"));
  expect_gone(ranks);
}

class PoliteSignal : public Failure, public testing::WithParamInterface<int> {};

TEST_P(PoliteSignal, SavesACheckpointAndSaysHowToGoOn) {
  Program program(folder_.path(), long_run(2));
  wait_for_steps(program, 2);
  const auto ranks = children_of(program.pid());
  ::kill(program.pid(), GetParam());
  const Ended ended = program.wait();
  EXPECT_EQ(ended.exit_code, 128 + GetParam());
  EXPECT_THAT(ended.out, HasSubstr("trireme train --resume out"));
  EXPECT_TRUE(std::filesystem::exists(folder_ / "out/checkpoints"));
  EXPECT_FALSE(std::filesystem::exists(folder_ / "out/model.safetensors"));
  expect_gone(ranks);
}

INSTANTIATE_TEST_SUITE_P(Cli, PoliteSignal,
                         testing::Values(SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1));

class EarlySignal : public Failure, public testing::WithParamInterface<int> {};

// Rank 0 of a world whose rank 1 never comes, as mpirun or torchrun would start it.
TEST_P(EarlySignal, EndsARankThatWaitsForOthers) {
  ::signal(SIGHUP, SIG_DFL);  // it may be ignored here, and would stay so
  const int port = free_port();
  const std::map<std::string, std::string> variables = {{"RANK", "0"},
                                                        {"WORLD_SIZE", "2"},
                                                        {"MASTER_ADDR", "127.0.0.1"},
                                                        {"MASTER_PORT", std::to_string(port)}};
  for (const auto& [name, value] : variables) ::setenv(name.c_str(), value.c_str(), 1);
  Program program(folder_.path(), long_run(2, {"communication.timeout=100"}));
  for (const auto& [name, value] : variables) ::unsetenv(name.c_str());
  ASSERT_TRUE(begins_to_listen(port)) << "rank 0 serves no rendezvous";
  ::kill(program.pid(), GetParam());
  EXPECT_EQ(program.wait().exit_code, 128 + GetParam());
}

INSTANTIATE_TEST_SUITE_P(Cli, EarlySignal, testing::Values(SIGINT, SIGTERM, SIGHUP));

TEST_F(Failure, UnderNohupAHangupIsIgnored) {
  ::signal(SIGHUP, SIG_IGN);
  Program program(folder_.path(), long_run(2));
  ::signal(SIGHUP, SIG_DFL);
  wait_for_steps(program, 2);
  ::kill(program.pid(), SIGHUP);
  for (const pid_t rank : children_of(program.pid())) ::kill(rank, SIGHUP);
  ::kill(program.pid(), SIGTERM);
  const Ended ended = program.wait();
  EXPECT_EQ(ended.exit_code, 128 + SIGTERM);
  EXPECT_THAT(ended.out, HasSubstr("stopped as asked"));
}

TEST_F(Failure, CtrlCTwiceEndsEvenARankThatHangs) {
  Program program(folder_.path(), long_run(2));
  wait_for_steps(program, 2);
  const auto ranks = children_of(program.pid());
  ASSERT_EQ(ranks.size(), 2u);
  ::kill(ranks[1], SIGSTOP);
  ::kill(program.pid(), SIGINT);
  std::this_thread::sleep_for(100ms);
  ::kill(program.pid(), SIGINT);
  const Ended ended = program.wait();
  EXPECT_EQ(ended.exit_code, 130) << ended.err;
  expect_gone(ranks);
}

TEST_F(Failure, ByDivergenceNamesStepAndParameterInOneLine) {
  const Ended ended = run_program(
      folder_.path(), long_run(3, {"parallelism.strategy=" + kHostShared, "optimizer.lr=1e38"}));
  EXPECT_EQ(ended.exit_code, 5) << ended.err;
  const std::string last = ended.err.substr(ended.err.rfind('\n', ended.err.size() - 2) + 1);
  EXPECT_THAT(last, StartsWith("trireme: training diverged: the "));
  EXPECT_THAT(last, HasSubstr(" of step "));
  EXPECT_THAT(last, HasSubstr("the first parameter with a bad gradient is "));
  EXPECT_EQ(ended.err.find("┌"), std::string::npos) << ended.err;
}

// A limit of file size stands for a full disk: every write beyond it fails.
TEST_F(Failure, AFullDiskIsAWarningAndKeepsTheLastCheckpoint) {
  {
    Program program(folder_.path(), long_run(2, {"checkpoint.every_steps=25"}));
    program.wait_for("out/logs/rank-0.log", "checkpoint out/checkpoints/step-25");
    const rlimit nothing{1, 1};
    for (const pid_t rank : children_of(program.pid())) {
      ASSERT_EQ(::prlimit(rank, RLIMIT_FSIZE, &nothing, nullptr), 0);
    }
    program.wait_for("out/logs/rank-0.log", "warning: the checkpoint of step");
    ::kill(program.pid(), SIGINT);
    const Ended ended = program.wait();
    EXPECT_EQ(ended.exit_code, 3) << ended.err;
    EXPECT_THAT(ended.err, HasSubstr(": File too large"));
    EXPECT_THAT(ended.err, HasSubstr("resume with: trireme train --resume out"));
  }
  const int full = metrics_of(folder_ / "out").back()["step"].get<int>();
  const Ended resumed = run_program(
      folder_.path(), {"train", "--resume", "out", fmt::format("training.steps={}", full + 50)});
  EXPECT_EQ(resumed.exit_code, 0) << resumed.err;
  EXPECT_THAT(resumed.err, HasSubstr("going on after step "));
}

TEST_F(Failure, AnEarlierRunIsReplacedOnlyIfAskedTo) {
  const auto words = [](int steps) {
    return long_run(2, {fmt::format("training.steps={}", steps)});
  };
  ASSERT_EQ(run_program(folder_.path(), words(30)).exit_code, 0);
  const std::string model = read_file(folder_ / "out/model.safetensors");
  const Ended refused = run_program(folder_.path(), words(20));
  EXPECT_EQ(refused.exit_code, 2);
  EXPECT_THAT(refused.err, StartsWith("trireme: run.directory: out holds a run; choose another"));
  EXPECT_EQ(read_file(folder_ / "out/model.safetensors"), model);
  std::vector<std::string> replacing = words(20);
  replacing.push_back("--overwrite");
  ASSERT_EQ(run_program(folder_.path(), replacing).exit_code, 0);
  EXPECT_NE(read_file(folder_ / "out/model.safetensors"), model);
  EXPECT_FALSE(std::filesystem::exists(folder_ / "out/checkpoints/step-30"));
  EXPECT_EQ(metrics_of(folder_ / "out").back()["step"], 20);
}

TEST_F(Failure, OnlyTheResultGoesToStdout) {
  auto words = long_run(2, {"training.steps=20", "data.holdout=0.1", "--json"});
  const Ended ended = run_program(folder_.path(), words);
  const auto result = nlohmann::json::parse(ended.out);
  EXPECT_EQ(result["steps"], 20);
  EXPECT_TRUE(result["evaluation"]["r2"].is_number());
  EXPECT_THAT(ended.err, HasSubstr("step 20/20"));
}

}  // namespace
}  // namespace trireme::test
