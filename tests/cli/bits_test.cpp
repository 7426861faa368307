// Promise 1: a fixed number of virtual workers gives the same bits on any number of ranks, and a
// run that was stopped and resumed gives the bits of one that was not.

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <algorithm>
#include <cstdint>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "tests/cli/program.h"
#include "trireme/base/files.h"
#include "trireme/base/random.h"
#include "trireme/formats/safetensors.h"

namespace trireme {
namespace {

using test::Ended;
using test::Program;
using test::run_program;
using test::TemporaryFolder;

constexpr const char* kLong = "training.epochs=40";  // 320 steps: time to be stopped

void write_idx(const std::filesystem::path& path, const std::vector<std::uint32_t>& shape,
               const std::string& bytes) {
  std::string file = {'\0', '\0', '\x08', static_cast<char>(shape.size())};
  for (const std::uint32_t extent : shape) {
    for (int shift = 24; shift >= 0; shift -= 8) file += static_cast<char>(extent >> shift);
  }
  write_file_atomically(path, file + bytes);
}

// 203 noisy images of 3 kinds: a number that no batch or world size divides.
void write_images(const std::filesystem::path& folder) {
  constexpr std::uint32_t kImages = 203, kSide = 8;
  const CounterRandom random(5);
  std::string pixels, labels;
  for (std::uint32_t i = 0; i < kImages; ++i) {
    labels += static_cast<char>(i % 3);
    for (std::uint32_t p = 0; p < kSide * kSide; ++p) {
      const bool lit = p / kSide % 3 == i % 3;
      pixels += static_cast<char>(random.words(i * 64 + p)[0] % 100 + (lit ? 100 : 0));
    }
  }
  write_idx(folder / "images", {kImages, kSide, kSide}, pixels);
  write_idx(folder / "labels", {kImages}, labels);
}

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
                                    "training.threads=1",
                                    "training.epochs=2",
                                    "optimizer.name=adamw",
                                    "optimizer.lr=0.01",
                                    "lr_scheduler.name=cosine",
                                    "metrics.every_steps=3",
                                    "run.directory=" + run};
  words.insert(words.end(), more.begin(), more.end());
  return words;
}

// Every tensor of a checkpoint, whole, however it is cut into files: name -> bytes.
std::map<std::string, std::string> checkpoint_of(const std::filesystem::path& run, int step) {
  const auto folder = run / "checkpoints" / fmt::format("step-{}", step);
  const auto manifest = nlohmann::json::parse(read_file(folder / "manifest.json"))["manifest"];
  std::map<std::string, std::string> whole;
  for (const auto& [name, tensor] : manifest["tensors"].items()) {
    for (const auto& slice : tensor["slices"]) {
      const auto& file_entry = manifest["files"][slice["file"].get<std::size_t>()];
      const SafetensorsFile file(folder / file_entry["name"].get<std::string>());
      const auto first = slice["offset"].get<std::int64_t>();
      const auto end = first + slice["count"].get<std::int64_t>();
      whole[name] +=
          file.bytes(file.contains(name) ? name : fmt::format("{}[{}:{}]", name, first, end));
    }
  }
  return whole;
}

class SameBits : public ::testing::TestWithParam<std::string> {
 protected:
  SameBits() { write_images(folder_.path()); }

  // model.safetensors and all optimizer state of a run.
  std::pair<std::string, std::map<std::string, std::string>> result_of(const std::string& run,
                                                                       int step) {
    return {read_file(folder_ / run / "model.safetensors"), checkpoint_of(folder_ / run, step)};
  }

  void run(const std::string& name, int ranks, std::vector<std::string> more = {}) {
    more.insert(more.begin(), GetParam());
    const Ended ended = run_program(folder_.path(), arguments(name, ranks, std::move(more)));
    ASSERT_EQ(ended.exit_code, 0) << ended.err;
  }

  TemporaryFolder folder_;
};

TEST_P(SameBits, OnAnyNumberOfRanks) {
  run("alone", 1);
  const auto alone = result_of("alone", 16);
  EXPECT_GT(alone.second.size(), 20u);  // parameters, statistics and two moments each
  for (const int ranks : {2, 3, 4, 6}) {
    const std::string name = fmt::format("on-{}", ranks);
    run(name, ranks);
    EXPECT_TRUE(result_of(name, 16) == alone) << ranks << " ranks";
  }
}

TEST_P(SameBits, HoweverVirtualWorkersAreDealtOut) {
  run("even", 3);
  run("given", 3, {"training.shares=[1, 8, 2.5]"});
  EXPECT_TRUE(result_of("given", 16) == result_of("even", 16));
  EXPECT_NE(
      read_file(folder_ / "given" / "logs" / "rank-0.log").find("12 virtual workers (1 + 9 + 2)"),
      std::string::npos);
  run("measured", 2, {"training.measure_shares=true"});
  EXPECT_TRUE(result_of("measured", 16) == result_of("even", 16));
  const std::string config = read_file(folder_ / "measured" / "config.toml");
  EXPECT_NE(config.find("measure_shares = false"), std::string::npos) << config;
  const auto shares = config.find("shares = [");
  ASSERT_NE(shares, std::string::npos);
  // Two of them, of which the faster rank has 1.
  const std::string list = config.substr(shares, config.find(']', shares) - shares);
  EXPECT_EQ(std::ranges::count(list, ','), 1) << list;
  EXPECT_NE(list.find("1.0"), std::string::npos) << list;
}

TEST_P(SameBits, AfterStoppingAndResuming) {
  run("whole", 2, {kLong});
  {
    const auto words = arguments("cut", 3, {GetParam(), kLong, "checkpoint.every_steps=5"});
    Program program(folder_.path(), words);
    program.wait_for("cut/logs/rank-0.log", "checkpoint cut/checkpoints/step-5");
    ::kill(program.pid(), SIGINT);
    const Ended ended = program.wait();
    ASSERT_EQ(ended.exit_code, 130) << ended.err;
    EXPECT_NE(ended.out.find("trireme train --resume cut"), std::string::npos) << ended.out;
    const Ended resumed = run_program(folder_.path(), {"train", "--resume", "cut", "-n", "2"});
    ASSERT_EQ(resumed.exit_code, 0) << resumed.err;
  }
  EXPECT_TRUE(result_of("cut", 320) == result_of("whole", 320));
}

TEST_P(SameBits, AfterARankWasKilledAndTheRunResumed) {
  run("whole", 2, {kLong});
  {
    Program program(folder_.path(),
                    arguments("cut", 2, {GetParam(), kLong, "checkpoint.every_steps=4"}));
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
  EXPECT_TRUE(result_of("cut", 320) == result_of("whole", 320));
}

INSTANTIATE_TEST_SUITE_P(Strategies, SameBits,
                         ::testing::Values("parallelism.strategy=replicated",
                                           "parallelism.strategy=host_shared"),
                         [](const auto& info) { return info.param.substr(21); });

}  // namespace
}  // namespace trireme
