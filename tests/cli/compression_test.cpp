// Runs whose gradients are compressed: resumed, on other numbers of ranks, and their bytes.

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <sstream>

#include "tests/cli/program.h"
#include "trireme/base/files.h"

namespace trireme {
namespace {

using test::Ended;
using test::run_program;
using testing::HasSubstr;
using testing::Not;

using Words = std::vector<std::string>;

class CompressedRun : public testing::Test {
 protected:
  Ended try_train(const std::string& run, int ranks, const Words& more) {
    Words words = {"train",
                   "-n",
                   std::to_string(ranks),
                   "data.samples=300",
                   "data.features_count=40",
                   "model.name=mlp",
                   "model.hidden=[30]",
                   "training.global_batch=24",
                   "training.virtual_workers=12",
                   "training.threads=1",
                   "training.steps=20",
                   "checkpoint.every_steps=10",
                   "metrics.every_steps=1",
                   "optimizer.name=adam",
                   "run.directory=" + run};
    words.insert(words.end(), more.begin(), more.end());
    return run_program(folder_.path(), words);
  }

  void train(const std::string& run, int ranks, const Words& more) {
    const Ended ended = try_train(run, ranks, more);
    ASSERT_EQ(ended.exit_code, 0) << ended.err;
  }

  // As if `run` had ended after step 10, and gone on.
  void resume_copy(const std::string& run, const std::string& to, int ranks) {
    std::filesystem::copy(folder_ / run, folder_ / to, std::filesystem::copy_options::recursive);
    std::filesystem::remove_all(folder_ / to / "checkpoints/step-20");
    const Ended ended = run_program(folder_.path(), {"train", "--resume", to, "-n",
                                                     std::to_string(ranks), "run.directory=" + to});
    ASSERT_EQ(ended.exit_code, 0) << ended.err;
  }

  std::string model(const std::string& run) {
    return read_file(folder_ / run / "model.safetensors");
  }
  std::string log(const std::string& run) { return read_file(folder_ / run / "logs/rank-0.log"); }

  std::int64_t bytes_sent(const std::string& run) {
    std::istringstream lines(read_file(folder_ / run / "metrics.jsonl"));
    std::int64_t sent = 0;
    for (std::string line; std::getline(lines, line);) {
      sent += nlohmann::json::parse(line).value("bytes_sent", std::int64_t{0});
    }
    return sent;
  }

  test::TemporaryFolder folder_;
};

TEST_F(CompressedRun, GoesOnWithTheSameBits) {
  for (const char* codec : {"int8", "random_k", "power_sgd"}) {
    const std::string whole = fmt::format("{}-whole", codec),
                      resumed = fmt::format("{}-cut", codec);
    train(whole, 3, {fmt::format("communication.compression={}", codec)});
    resume_copy(whole, resumed, 3);
    EXPECT_EQ(model(resumed), model(whole)) << codec;
    EXPECT_THAT(log(resumed), Not(HasSubstr("starting it anew"))) << codec;
  }
}

TEST_F(CompressedRun, GoesOnOnAnotherNumberOfRanksWithoutTheirResiduals) {
  train("whole", 3, {"communication.compression=top_k", "communication.compression_ratio=0.1"});
  for (const int ranks : {1, 2}) {
    const std::string resumed = fmt::format("on-{}", ranks);
    resume_copy("whole", resumed, ranks);
    EXPECT_THAT(log(resumed), HasSubstr("starting it anew"));
    EXPECT_NE(model(resumed), model("whole"));
  }
}

// Weights of 30 * 40 and 30 values, biases of 30 and 1: docs/compression.md, to the byte.
TEST_F(CompressedRun, SendsTheBytesOfItsCodec) {
  constexpr std::int64_t kSteps = 20;
  constexpr std::int64_t kHeaders = 4 * 16;
  const auto train_with = [&](const std::string& codec) {
    // One virtual worker a rank: more of them send more without compression, each a row of its own.
    Words words = {"training.virtual_workers=2", "communication.compression=" + codec};
    if (codec.ends_with("_k")) words.push_back("communication.compression_ratio=0.1");
    train(codec, 2, words);
    return bytes_sent(codec);
  };
  // f32 gradients lie at multiples of 64 bytes; what else travels is alike.
  const std::int64_t rest = train_with("none") - kSteps * 4 * (1200 + 32 + 32 + 16);
  EXPECT_GE(rest, 0);
  const auto bytes_of = [&](const std::string& codec) {
    return static_cast<double>(train_with(codec) - rest) / kSteps;
  };
  EXPECT_EQ(bytes_of("bf16"), 2 * 1261);
  EXPECT_EQ(bytes_of("int8"), 1261 + 4 * (5 + 3) + kHeaders);
  EXPECT_EQ(bytes_of("top_k"), 8 * (120 + 3 + 3 + 1) + kHeaders);
  EXPECT_EQ(bytes_of("random_k"), 4 * (120 + 3 + 3 + 1));
  EXPECT_EQ(bytes_of("power_sgd"), 4 * (2 * (30 + 40) + 30 + 30 + 1));
  EXPECT_EQ(bytes_of("sign"), 150 + 4 + 4 + 1 + 4 * (5 + 3) + kHeaders);
}

TEST_F(CompressedRun, IsRefusedWhereNoGradientTravels) {
  const Ended ended = try_train(
      "shared", 2, {"communication.compression=sign", "parallelism.strategy=host_shared"});
  EXPECT_EQ(ended.exit_code, 2) << ended.err;
  EXPECT_THAT(ended.err, HasSubstr("communication.compression = \"sign\" needs"));
  const Ended unknown = try_train("zip", 2, {"communication.compression=zip"});
  EXPECT_EQ(unknown.exit_code, 2) << unknown.err;
  EXPECT_THAT(unknown.err, HasSubstr("\"power_sgd\", \"sign\", got \"zip\""));
}

}  // namespace
}  // namespace trireme
