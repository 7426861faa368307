// A fixed number of virtual workers gives the same bits on any number of ranks, and a run that was
// killed and resumed gives the bits of one that was not. tests/train has more of it in one process;
// dropout draws from a generator that is the process's, so that it needs processes.

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <signal.h>

#include "tests/cli/program.h"
#include "tests/train/samples.h"
#include "tests/train/words.h"
#include "trireme/base/files.h"

namespace trireme {
namespace {

using test::Ended;
using test::Program;
using test::run_program;
using test::TemporaryFolder;

constexpr const char* kLong = "training.epochs=40";  // 320 steps: time to be stopped

std::vector<std::string> arguments(const std::string& run, int ranks,
                                   std::vector<std::string> more = {}) {
  std::vector<std::string> words = {"train",
                                    "-n",
                                    std::to_string(ranks),
                                    "data.format=idx",
                                    "data.images=images",
                                    "data.labels=labels",
                                    "data.holdout=0.1",
                                    "model.name=cnn",
                                    "model.channels=[4]",
                                    "model.hidden=[16]",
                                    "model.dropout=0.25",
                                    "training.virtual_workers=12",
                                    "training.global_batch=25",
                                    "training.epochs=2",
                                    "optimizer.name=adamw",
                                    "optimizer.lr=0.01",
                                    "lr_scheduler.name=cosine",
                                    "metrics.every_steps=3",
                                    "run.directory=" + run};
  words.insert(words.end(), more.begin(), more.end());
  return words;
}

class SameBits : public ::testing::TestWithParam<std::string> {
 protected:
  SameBits() { test::write_images(folder_.path()); }

  std::string model(const std::string& run) {
    return read_file(folder_ / run / "model.safetensors");
  }

  void run(const std::string& name, int ranks, std::vector<std::string> more = {}) {
    more.insert(more.begin(), "parallelism.strategy=" + GetParam());
    const Ended ended = run_program(folder_.path(), arguments(name, ranks, std::move(more)));
    ASSERT_EQ(ended.exit_code, 0) << ended.err;
  }

  TemporaryFolder folder_;
};

TEST_P(SameBits, WithDropoutOnAnyNumberOfRanks) {
  run("alone", 1);
  for (const int ranks : {2, 3, 4}) {
    const std::string name = fmt::format("on-{}", ranks);
    run(name, ranks);
    EXPECT_TRUE(model(name) == model("alone")) << ranks << " ranks";
  }
}

TEST_P(SameBits, WithDropoutHoweverVirtualWorkersAreDealtOut) {
  run("even", 3);
  run("given", 3, {"training.shares=[1, 8, 2.5]"});
  EXPECT_TRUE(model("given") == model("even"));
  EXPECT_NE(
      read_file(folder_ / "given" / "logs" / "rank-0.log").find("12 virtual workers (1 + 9 + 2)"),
      std::string::npos);
}

TEST_P(SameBits, AfterARankWasKilledAndTheRunResumed) {
  run("whole", 2, {kLong});
  {
    Program program(folder_.path(), arguments("cut", 2,
                                              {"parallelism.strategy=" + GetParam(), kLong,
                                               "checkpoint.every_steps=4"}));
    program.wait_for("cut/logs/rank-0.log", "checkpoint cut/checkpoints/step-4");
    const auto ranks = test::children_of(program.pid());
    ASSERT_EQ(ranks.size(), 2u);
    ::kill(ranks[1], SIGKILL);
    const Ended ended = program.wait();
    ASSERT_EQ(ended.exit_code, 128 + SIGKILL) << ended.err;
    EXPECT_NE(ended.err.find("rank 1 of 2: killed by SIGKILL"), std::string::npos) << ended.err;
    EXPECT_NE(ended.err.find("resume with: trireme train --resume cut"), std::string::npos);
    const Ended resumed = run_program(folder_.path(), {"train", "--resume", "cut", "-n", "1"});
    ASSERT_EQ(resumed.exit_code, 0) << resumed.err;
  }
  EXPECT_TRUE(model("cut") == model("whole"));
}

INSTANTIATE_TEST_SUITE_P(Strategies, SameBits,
                         ::testing::Values(test::kReplicated, test::kHostShared),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace trireme
