// How many bytes a run sends, by docs/compression.md.

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "tests/train/runs.h"

namespace trireme::test {
namespace {

constexpr std::int64_t kSteps = 20;

class Traffic : public testing::Test {
 protected:
  // Bytes that rank 0 of two has sent in a run. One virtual worker a rank: without compression each
  // more of them sends a row of its own.
  std::int64_t sent(const std::string& codec) {
    Words words = {"data.samples=300",
                   "data.holdout=0",
                   "data.features_count=40",
                   "model.name=mlp",
                   "model.hidden=[30]",
                   "training.virtual_workers=2",
                   fmt::format("training.steps={}", kSteps),
                   "communication.compression=" + codec};
    if (codec == "top_k" || codec == "random_k")
      words.push_back("communication.compression_ratio=0.1");
    const Outcome outcome = runs_.train(codec, 2, words);
    std::int64_t bytes = 0;
    for (const StepReport& step : outcome.ranks.front().steps) bytes += step.traffic.sent;
    EXPECT_EQ(outcome.summaries.front().traffic.sent, bytes);
    return bytes;
  }

  Runs runs_;
};

// Weights of 30 * 40 and 30 values, biases of 30 and 1.
TEST_F(Traffic, OfEachCodecIsWhatTheDocumentSays) {
  constexpr std::int64_t kHeaders = 4 * 16;
  // f32 gradients lie at multiples of 64 bytes; all other traffic is the same.
  const std::int64_t rest = sent("none") - kSteps * 4 * (1200 + 32 + 32 + 16);
  EXPECT_GE(rest, 0);
  const auto bytes_of_a_step = [&](const std::string& codec) {
    return static_cast<double>(sent(codec) - rest) / kSteps;
  };
  EXPECT_EQ(bytes_of_a_step("bf16"), 2 * 1261);
  EXPECT_EQ(bytes_of_a_step("int8"), 1261 + 4 * (5 + 3) + kHeaders);
  EXPECT_EQ(bytes_of_a_step("top_k"), 8 * (120 + 3 + 3 + 1) + kHeaders);
  EXPECT_EQ(bytes_of_a_step("random_k"), 4 * (120 + 3 + 3 + 1));
  EXPECT_EQ(bytes_of_a_step("power_sgd"), 4 * (2 * (30 + 40) + 30 + 30 + 1));
  EXPECT_EQ(bytes_of_a_step("sign"), 150 + 4 + 4 + 1 + 4 * (5 + 3) + kHeaders);
}

TEST_F(Traffic, OfARunOnOneRankIsNone) {
  const Outcome outcome = runs_.train("alone", 1);
  EXPECT_EQ(outcome.summaries.front().traffic.sent, 0);
}

}  // namespace
}  // namespace trireme::test
