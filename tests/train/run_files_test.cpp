// A run whose files fail, fill the disk or lose power.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <optional>

#include "tests/base/memory_files.h"
#include "tests/comm/ranks.h"
#include "tests/train/runs.h"
#include "trireme/base/error.h"
#include "trireme/checkpoint/checkpoint.h"
#include "trireme/train/run_directory.h"

namespace trireme::test {
namespace {

using testing::AnyOf;
using testing::EndsWith;
using testing::HasSubstr;
using testing::StartsWith;
using testing::ThrowsMessage;

class RunOnFailingFiles : public testing::Test {
 protected:
  static Config config(const Words& words = {}) {
    const Words own = {"data.samples=40",         "data.features_count=3",
                       "training.global_batch=6", "training.virtual_workers=3",
                       "training.steps=4",        "training.threads=1",
                       "metrics.every_steps=1",   "checkpoint.every_steps=2",
                       "data.prefetch_steps=0",   "run.directory=runs/one",
                       "data.standardize=true"};
    return parse_config("", "test", own + words);
  }

  void train(int ranks, const Config& config, bool resume = false) {
    run_ranks(ranks, [&](Communicator& world) {
      Recorder recorder;
      trireme::train(config, world, recorder, resume, files_);
    });
  }

  // The error of a run of one rank, or nothing.
  std::optional<std::string> error_of(const Config& config) {
    try {
      train(1, config);
      return std::nullopt;
    } catch (const DataError& error) {
      return error.what();
    }
  }

  std::string content(const std::string& name) { return read_file(run_.root / name, files_); }

  MemoryFiles files_;
  RunDirectory run_{"runs/one"};
};

TEST_F(RunOnFailingFiles, WritesNothingBesideThem) {
  train(3, config());
  EXPECT_EQ(files_.kind_of(run_.model()), FileKind::kFile);
  EXPECT_EQ(files_.kind_of(run_.standardization()), FileKind::kFile);
  EXPECT_EQ(files_.kind_of(run_.checkpoints() / "step-4"), FileKind::kDirectory);
  EXPECT_THAT(content("metrics.jsonl"), StartsWith("{\"step\":1,"));
  EXPECT_FALSE(std::filesystem::exists("runs"));
}

TEST_F(RunOnFailingFiles, ResumesFromThem) {
  train(3, config());
  const std::string model = content("model.safetensors");
  train(3, config({"training.steps=2"}));
  train(2, config(), /*resume=*/true);
  EXPECT_EQ(content("model.safetensors"), model);
}

TEST_F(RunOnFailingFiles, NamesADirectoryThatCannotBeCreated) {
  write_file_atomically("runs", "a file, no folder", files_);
  EXPECT_THAT(error_of(config()), testing::Optional(HasSubstr("runs: cannot create: ")));
}

// The disk fills up after every number of bytes in turn.
TEST_F(RunOnFailingFiles, AFullDiskIsAnErrorThatNamesTheFile) {
  train(1, config());
  const std::string model = content("model.safetensors");
  const std::string toml = content("config.toml");
  int full = 0;
  for (std::int64_t space = 0;; space += 401) {
    files_.remove("runs");
    files_.limit_space(space);
    const auto error = error_of(config());
    EXPECT_EQ(files_.clear_fault(), error.has_value());
    if (!error) break;
    ++full;
    EXPECT_THAT(*error, StartsWith("runs/one/"));
    EXPECT_THAT(*error, EndsWith("No space left on device"));
    if (files_.kind_of(run_.config()) != FileKind::kNone) EXPECT_EQ(content("config.toml"), toml);
    if (files_.kind_of(run_.model()) != FileKind::kNone) {
      EXPECT_EQ(content("model.safetensors"), model);
    }
  }
  EXPECT_GT(full, 10);
  EXPECT_EQ(content("model.safetensors"), model);
}

TEST_F(RunOnFailingFiles, MetricsOfAFullDiskAreMadeAgain) {
  train(1, config());
  const std::string model = content("model.safetensors");
  int torn = 0;
  for (std::int64_t space = 0;; space += 211) {
    files_.remove("runs");
    files_.limit_space(space);
    const auto error = error_of(config());
    files_.clear_fault();
    if (!error) break;
    if (error->find("metrics.jsonl: cannot write") == std::string::npos) continue;
    if (!latest_checkpoint(run_.checkpoints(), files_)) continue;
    ++torn;
    train(1, config(), /*resume=*/true);
    EXPECT_EQ(content("model.safetensors"), model);
    int lines = 0;
    for (const char c : content("metrics.jsonl")) lines += c == '\n';
    EXPECT_EQ(lines, 4);
  }
  EXPECT_GT(torn, 0);
}

TEST_F(RunOnFailingFiles, OtherRanksEndIfTheFirstOnesDiskIsFull) {
  files_.limit_space(3000);
  EXPECT_THAT([&] { train(3, config()); },
              ThrowsMessage<DataError>(HasSubstr("No space left on device")));
}

// At every operation in turn.
TEST_F(RunOnFailingFiles, ALossOfPowerTearsNoConfigurationAndNoModel) {
  train(1, config());
  const std::string toml = content("config.toml");
  const std::string model = content("model.safetensors");
  const Config longer = config({"training.steps=5"});
  for (const Kept kept : {Kept::kNothing, Kept::kNamesAndHalfOfContents}) {
    for (int operation = 0;; operation += 3) {
      files_.remove("runs");
      train(1, config());
      files_.cut_power_at(operation);
      const auto error = error_of(longer);
      files_.restore_power(kept);
      if (!error) break;
      const Config read = read_run_config(run_.config(), {}, files_);
      EXPECT_THAT(read.training.steps, AnyOf(4, 5)) << operation;
      if (files_.kind_of(run_.model()) != FileKind::kNone) {
        EXPECT_EQ(content("model.safetensors").size(), model.size()) << operation;
      }
      // What is left can be replaced.
      train(1, config());
      EXPECT_EQ(content("config.toml"), toml) << operation;
      EXPECT_EQ(content("model.safetensors"), model) << operation;
    }
  }
}

}  // namespace
}  // namespace trireme::test
