// A run whose files fail, fill the disk or lose power.

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <optional>
#include <set>

#include "tests/base/memory_files.h"
#include "tests/comm/ranks.h"
#include "tests/train/runs.h"
#include "trireme/base/error.h"
#include "trireme/checkpoint/checkpoint.h"
#include "trireme/checkpoint/condition.h"
#include "trireme/checkpoint/step_folder.h"
#include "trireme/train/metrics_log.h"
#include "trireme/train/run_directory.h"
#include "trireme/train/run_lock.h"

namespace trireme::test {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::AnyOf;
using testing::EndsWith;
using testing::HasSubstr;
using testing::Not;
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
      trireme::train(config, world, recorder, {.resume = resume}, files_);
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

  int lines_of_metrics() {
    const std::string lines = content("metrics.jsonl");
    return static_cast<int>(std::ranges::count(lines, '\n'));
  }

  // What each rank was told of a run in which one operation fails.
  struct Ended {
    std::vector<RunSummary> summaries;
    std::vector<std::vector<std::string>> warnings;
    std::string error;
  };

  Ended train_with_failure(int ranks, int operation, const Words& words = {}) {
    Ended ended;
    ended.summaries.resize(static_cast<std::size_t>(ranks));
    ended.warnings.resize(static_cast<std::size_t>(ranks));
    files_.clear();
    files_.fail_at(operation, EIO);
    try {
      run_ranks(ranks, [&](Communicator& world) {
        const auto rank = static_cast<std::size_t>(world.rank());
        Recorder recorder;
        ended.summaries[rank] = trireme::train(config(words), world, recorder, {}, files_);
        ended.warnings[rank] = recorder.warnings;
      });
    } catch (const Error& error) {
      ended.error = error.what();
    }
    return ended;
  }

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
    files_.clear();
    files_.limit_space(space);
    const auto error = error_of(config());
    EXPECT_EQ(files_.clear_fault(), error.has_value());
    if (!error) break;
    ++full;
    EXPECT_THAT(*error, HasSubstr("runs/one/"));
    EXPECT_THAT(*error, EndsWith("No space left on device"));
    if (files_.kind_of(run_.config()) != FileKind::kNone) {
      EXPECT_EQ(content("config.toml"), toml);
    }
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
    files_.clear();
    files_.limit_space(space);
    const auto error = error_of(config());
    files_.clear_fault();
    if (!error) break;
    if (!latest_checkpoint(run_.checkpoints(), files_)) continue;
    if (lines_of_metrics() < 4) ++torn;
    train(1, config(), /*resume=*/true);
    EXPECT_EQ(content("model.safetensors"), model);
    EXPECT_EQ(lines_of_metrics(), 4);
  }
  EXPECT_GT(torn, 0);
}

TEST_F(RunOnFailingFiles, OtherRanksEndIfTheFirstOnesDiskIsFull) {
  files_.limit_space(3000);
  EXPECT_THAT([&] { train(3, config()); },
              ThrowsMessage<DataError>(HasSubstr("No space left on device")));
}

// At every operation in turn.
TEST_F(RunOnFailingFiles, ACheckpointThatCannotBeWrittenIsAWarningAndNotTheEnd) {
  train(1, config());
  const std::string model = content("model.safetensors");
  int warned = 0, incomplete = 0;
  for (int operation = 0;; ++operation) {
    const Ended ended = train_with_failure(1, operation);
    const bool has_struck = files_.clear_fault();
    if (!has_struck) break;
    EXPECT_THAT(ended.error, Not(HasSubstr("/step-"))) << operation;
    if (!ended.error.empty()) continue;
    EXPECT_EQ(content("model.safetensors"), model) << operation;
    const RunSummary& summary = ended.summaries[0];
    EXPECT_EQ(summary.not_written, ended.warnings[0]);
    if (summary.not_written.empty()) continue;
    ++warned;
    if (!summary.is_complete) ++incomplete;
    EXPECT_THAT(summary.not_written[0], HasSubstr("Input/output error"));
    const bool is_last = summary.not_written[0].find("checkpoint of step 4") != std::string::npos;
    const bool is_metrics = summary.not_written[0].find("metrics.jsonl") != std::string::npos;
    EXPECT_EQ(summary.is_complete, !is_last && !is_metrics) << summary.not_written[0];
  }
  EXPECT_GT(warned, 20);
  EXPECT_GT(incomplete, 10);
  EXPECT_LT(incomplete, warned);
}

// At every third operation in turn.
TEST_F(RunOnFailingFiles, ACopyThatCannotBeWrittenIsAWarningAndNotTheEnd) {
  const Words words = {"checkpoint.mirror=mirror/one"};
  train(1, config(words));
  const std::string model = content("model.safetensors");
  int warned = 0;
  for (int operation = 0;; operation += 3) {
    const Ended ended = train_with_failure(1, operation, words);
    if (!files_.clear_fault()) break;
    if (!ended.error.empty() || ended.warnings[0].empty()) continue;
    if (ended.warnings[0][0].find("checkpoint.mirror: ") == std::string::npos) continue;
    ++warned;
    EXPECT_EQ(ended.warnings[0].size(), 1u);
    EXPECT_EQ(ended.summaries[0].not_written, ended.warnings[0]);
    EXPECT_TRUE(ended.summaries[0].is_complete);
    EXPECT_EQ(content("model.safetensors"), model) << operation;
    EXPECT_THAT(damage_by_hash(run_.checkpoints() / "step-4", files_), testing::IsEmpty());
  }
  EXPECT_GT(warned, 20);
}

// At every third operation in turn, though which one that is depends on the threads.
TEST_F(RunOnFailingFiles, ACheckpointThatCannotBeWrittenInTheBackgroundIsAWarning) {
  const Words words = {"checkpoint.background=true", "checkpoint.every_steps=1"};
  train(1, config());
  const std::string model = content("model.safetensors");
  int warned = 0;
  for (int operation = 0;; operation += 3) {
    const Ended ended = train_with_failure(1, operation, words);
    if (!files_.clear_fault()) break;
    EXPECT_THAT(ended.error, Not(HasSubstr("/step-"))) << operation;
    if (!ended.error.empty()) continue;
    EXPECT_EQ(content("model.safetensors"), model) << operation;
    EXPECT_EQ(ended.summaries[0].not_written, ended.warnings[0]);
    if (ended.warnings[0].empty()) continue;
    if (ended.warnings[0][0].find("the checkpoint of step ") == 0) ++warned;
  }
  EXPECT_GT(warned, 10);
}

TEST_F(RunOnFailingFiles, AMirrorThatNeverWorksIsWarnedOfOnce) {
  write_file_atomically("mirror", "a file, no folder", files_);
  run_ranks(3, [&](Communicator& world) {
    Recorder recorder;
    const RunSummary summary =
        trireme::train(config({"checkpoint.mirror=mirror", "checkpoint.every_steps=1"}), world,
                       recorder, {}, files_);
    EXPECT_EQ(summary.steps, 4);
    EXPECT_EQ(recorder.warnings.size(), world.rank() == 0 ? 1u : 0u);
    if (world.rank() == 0) {
      EXPECT_THAT(recorder.warnings[0],
                  AllOf(StartsWith("checkpoint.mirror: the copy of the checkpoint of step 1 could "
                                   "not be written, and the run goes on without it: mirror"),
                        HasSubstr("cannot create")));
    }
  });
}

TEST_F(RunOnFailingFiles, ResumesFromTheMirror) {
  const Words words = {"checkpoint.mirror=mirror/one"};
  train(2, config(words));
  const std::string model = content("model.safetensors");
  const auto resumed_from = [&](std::int64_t step) {
    run_ranks(3, [&](Communicator& world) {
      Recorder recorder;
      trireme::train(config(words), world, recorder, {.resume = true}, files_);
      EXPECT_EQ(recorder.start.first_step, step);
      EXPECT_THAT(recorder.warnings, testing::Contains(HasSubstr("mirror/one")));
    });
    EXPECT_EQ(content("model.safetensors"), model);
  };
  // A damaged checkpoint has a whole copy, which is better than an older one.
  write_file_atomically(run_.checkpoints() / "step-4" / "rank-0.safetensors", "torn", files_);
  resumed_from(4);
  // The first place has none at all.
  for (const auto& [step, folder] : complete_checkpoints(run_.checkpoints(), files_)) {
    StepFolder(run_.checkpoints(), step, files_).remove();
  }
  StepFolder("mirror/one", 4, files_).remove();
  resumed_from(2);
  // Neither has a whole one: what is wrong with the first place is said.
  for (const fs::path& place : {run_.checkpoints(), fs::path("mirror/one")}) {
    for (const auto& [step, folder] : complete_checkpoints(place, files_)) {
      write_file_atomically(folder / "rank-0.safetensors", "torn", files_);
    }
  }
  EXPECT_THAT([&] { train(2, config(words), /*resume=*/true); },
              ThrowsMessage<DataError>(HasSubstr("runs/one/checkpoints: no checkpoint is whole")));
}

TEST_F(RunOnFailingFiles, ANewRunDoesNotReplaceTheCopiesOfAnother) {
  train(1, config({"checkpoint.mirror=mirror"}));
  EXPECT_THAT(
      [&] {
        train(2, config({"checkpoint.mirror=mirror", "run.directory=runs/two"}));
      },
      ThrowsMessage<UsageError>(
          HasSubstr("checkpoint.mirror: mirror holds the checkpoints of a run")));
  EXPECT_EQ(files_.kind_of("runs/two"), FileKind::kNone);
  for (const std::string where : {"runs/one", "runs/one/", "runs/one/checkpoints"}) {
    EXPECT_THAT([&] { train(1, config({"checkpoint.mirror=" + where})); },
                ThrowsMessage<UsageError>(HasSubstr("must be a folder of its own")));
  }
}

TEST_F(RunOnFailingFiles, RanksAgreeThatACheckpointCouldNotBeWritten) {
  train(3, config());
  const std::string model = content("model.safetensors");
  int warned = 0;
  for (int operation = 0;; operation += 5) {
    const Ended ended = train_with_failure(3, operation);
    if (!files_.clear_fault()) break;
    if (!ended.error.empty()) continue;
    EXPECT_EQ(content("model.safetensors"), model) << operation;
    const bool is_metrics =
        !ended.warnings[0].empty() && ended.warnings[0][0].find("metrics") != std::string::npos;
    if (is_metrics) continue;  // which the first rank writes alone
    EXPECT_EQ(ended.warnings[1], ended.warnings[0]);
    EXPECT_EQ(ended.warnings[2], ended.warnings[0]);
    warned += static_cast<int>(ended.warnings[0].size());
  }
  EXPECT_GT(warned, 5);
}

// Each of them saves what only it has, and none waits for another.
TEST_F(RunOnFailingFiles, AsynchronousRanksGoOnWithoutACheckpoint) {
  const Words words = asynchronous() + Words{"communication.compression=int8"};
  int warned = 0;
  for (int operation = 0;; operation += 7) {
    const Ended ended = train_with_failure(3, operation, words);
    if (!files_.clear_fault()) break;
    if (!ended.error.empty()) continue;
    EXPECT_EQ(files_.kind_of(run_.model()), FileKind::kFile);
    for (const auto& warnings : ended.warnings) warned += static_cast<int>(warnings.size());
  }
  EXPECT_GT(warned, 5);
}

TEST_F(RunOnFailingFiles, ALineOfMetricsThatCannotBeWrittenIsAWarning) {
  train(1, config());
  const int all = lines_of_metrics();
  int torn = 0;
  for (int operation = 0;; ++operation) {
    const Ended ended = train_with_failure(1, operation);
    if (!files_.clear_fault()) break;
    if (ended.summaries[0].not_written.empty()) continue;
    if (ended.summaries[0].not_written[0].find("metrics.jsonl") == std::string::npos) continue;
    ++torn;
    EXPECT_FALSE(ended.summaries[0].is_complete);
    EXPECT_GE(lines_of_metrics(), all - 1);
  }
  EXPECT_EQ(torn, 4);
}

TEST_F(RunOnFailingFiles, TheDirectoryIsTriedBeforeTheFirstStep) {
  std::set<std::string> errors;
  for (int operation = 0; operation < 60; ++operation) {
    const Ended ended = train_with_failure(2, operation);
    files_.clear_fault();
    if (ended.error.empty()) continue;
    errors.insert(ended.error);
    if (ended.error.find("files and folders must be written") == std::string::npos) continue;
    EXPECT_EQ(files_.kind_of(run_.root), FileKind::kNone) << ended.error;
  }
  for (const std::string verb : {"create", "write", "sync", "rename", "remove"}) {
    EXPECT_TRUE(std::ranges::any_of(errors, [&](const std::string& text) {
      return text.starts_with("run.directory: in runs/one files and folders must be written") &&
             text.find("cannot " + verb) != std::string::npos;
    })) << verb;
  }
}

TEST_F(RunOnFailingFiles, OfOneRunAtATime) {
  {
    const RunLock lock(run_, files_);
    EXPECT_THAT([&] { train(3, config()); },
                ThrowsMessage<UsageError>(AllOf(
                    HasSubstr(fmt::format("runs/one is in use by \"process {} on ", ::getpid())),
                    HasSubstr("runs/one/trireme.lock; wait for its end"))));
  }
  EXPECT_EQ(files_.kind_of(run_.root), FileKind::kNone);
  train(3, config());
  EXPECT_EQ(files_.kind_of(run_.lock()), FileKind::kNone);
}

// At every operation in turn.
TEST_F(RunOnFailingFiles, ALossOfPowerTearsNoConfigurationAndNoModel) {
  train(1, config());
  const std::string toml = content("config.toml");
  const std::string model = content("model.safetensors");
  const Config longer = config({"training.steps=5"});
  for (const Kept kept : {Kept::kNothing, Kept::kNamesAndHalfOfContents}) {
    for (int operation = 0;; operation += 3) {
      files_.clear();
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

TEST(MetricsLog, HasWholeLinesAfterOneThatCouldNotBeWritten) {
  MemoryFiles files;
  MetricsLog log("/metrics", 0, files);
  files.limit_space(10);
  EXPECT_THROW(log.write(StepReport{.step = 1}), DataError);
  files.clear_fault();
  log.write(StepReport{.step = 2});
  log.write(StepReport{.step = 3});
  const MetricsLog resumed("/metrics", 2, files);
  EXPECT_THAT(read_file("/metrics", files), StartsWith("{\"step\":2,"));
}

}  // namespace
}  // namespace trireme::test
