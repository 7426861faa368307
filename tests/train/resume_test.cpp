// A run that was stopped and resumed has the bits of a run that was not.

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <functional>

#include "tests/comm/ranks.h"
#include "tests/train/runs.h"
#include "trireme/base/error.h"
#include "trireme/base/files.h"
#include "trireme/checkpoint/checkpoint.h"
#include "trireme/comm/self/self.h"
#include "trireme/config/difference.h"
#include "trireme/train/checkpoint_tensors.h"
#include "trireme/train/checkpointer.h"

namespace trireme::test {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::ThrowsMessage;

class Resume : public testing::Test {
 protected:
  static Words with_checkpoints() { return {"checkpoint.every_steps=10", "checkpoint.keep=100"}; }

  Runs runs_;
};

TEST_F(Resume, OnOtherRanksAndWithAnotherStrategyHasTheSameBits) {
  runs_.train("whole", 3, with_checkpoints());
  const std::vector<std::string> strategies = {kReplicated, kHostShared, kParameterServer};
  for (const std::string& from : strategies) {
    runs_.train("from", 3, strategy(from) + with_checkpoints());
    for (const std::string& to : strategies) {
      for (const int ranks : {1, 2, 4}) {
        runs_.copy_until("from", "to", 20);
        runs_.resume("to", ranks, strategy(to) + with_checkpoints());
        EXPECT_EQ(runs_.model("to"), runs_.model("whole"))
            << from << ", then " << to << " on " << ranks << " ranks";
      }
    }
  }
}

TEST_F(Resume, SeveralTimesHasTheBitsOfAnUndisturbedRun) {
  runs_.train("whole", 2);
  runs_.train("cut", 2, {"training.steps=1"});
  for (const int steps : {2, 9, 16, 40}) {
    const Outcome outcome = runs_.resume("cut", 3, {fmt::format("training.steps={}", steps)});
    EXPECT_EQ(outcome.summaries.front().steps, steps);
  }
  EXPECT_EQ(runs_.model("cut"), runs_.model("whole"));
}

TEST_F(Resume, AfterTheLastStepWritesTheModelOfTheCheckpoint) {
  for (const std::string& name : {kReplicated, kHostShared, kParameterServer}) {
    runs_.train("run", 3, strategy(name));
    const std::string model = runs_.model("run");
    std::filesystem::remove(runs_ / "run" / "model.safetensors");
    const Outcome outcome = runs_.resume("run", 2, strategy(name));
    EXPECT_THAT(outcome.ranks.front().steps, IsEmpty());
    EXPECT_EQ(outcome.summaries.front().steps, 40);
    EXPECT_EQ(runs_.model("run"), model) << name;
  }
}

TEST_F(Resume, WithoutACheckpointIsAnError) {
  EXPECT_THAT([&] { runs_.resume("nowhere", 2); },
              ThrowsMessage<DataError>(HasSubstr("no checkpoint to resume from")));
  EXPECT_FALSE(std::filesystem::exists(runs_ / "nowhere"));
}

TEST_F(Resume, RefusesAnotherOrderOfSamples) {
  runs_.train("run", 2);
  const std::string config = read_file(runs_ / "run" / "config.toml");
  const auto refused = [&](const std::string& key, const std::string& was,
                           const std::string& value) {
    EXPECT_THAT(
        [&] {
          runs_.resume("run", 3, {fmt::format("{}={}", key, value), "training.steps=80"});
        },
        ThrowsMessage<UsageError>(
            HasSubstr(fmt::format("was written with {} = {}, got {}", key, was, value))));
  };
  refused("training.global_batch", "24", "25");
  refused("training.virtual_workers", "12", "6");
  refused("training.seed", "1", "2");
  refused("data.sampler", "random", "block");
  refused("optimizer.name", "adam", "sgd");
  EXPECT_EQ(read_file(runs_ / "run" / "config.toml"), config);
  EXPECT_EQ(runs_.metrics("run").size(), 45u);  // 40 steps, 5 evaluations
  EXPECT_THAT(runs_.checkpoints("run"), ElementsAre(40));
}

TEST_F(Resume, RefusesAnotherModelOrType) {
  runs_.train("run", 2);
  const auto refused = [&](const std::string& word, const std::string& message) {
    EXPECT_THAT(
        [&] {
          runs_.resume("run", 3, {word, "training.steps=80"});
        },
        ThrowsMessage<UsageError>(HasSubstr("was written with " + message)));
  };
  refused("training.precision=f64", "training.precision = 'f32', got 'f64'");
  refused("model.name=mlp", "model.name = 'linear', got 'mlp'");
  runs_.train("deep", 1, {"model.name=mlp", "model.hidden=[4]"});
  EXPECT_THAT(
      [&] {
        runs_.resume("deep", 3, {"model.name=mlp", "model.hidden=[5, 6]"});
      },
      ThrowsMessage<UsageError>(HasSubstr("model.hidden = [4], got [5, 6]")));
}

// The same for checkpoints of earlier versions, which hold no configuration.
TEST_F(Resume, RefusesTensorsOfAnotherType) {
  runs_.train("run", 2);
  const Config config = runs_.config("run", {"training.precision=f64"});
  const auto alone = self_communicator();
  Trainer trainer(config, check(config, 1), *alone);
  const auto checkpoint = runs_ / "run" / "checkpoints" / "step-40";
  const auto wanted =
      tensors_to_load(&trainer.optimizer(), trainer.strategy(), tensors_of_checkpoint(checkpoint));
  EXPECT_THAT([&] { load_checkpoint(checkpoint, wanted.tensors); },
              ThrowsMessage<UsageError>(
                  HasSubstr("was written as f32[1, 7], the model or optimizer has f64")));
}

TEST_F(Resume, FallsBackToTheNewestCheckpointThatIsWhole) {
  runs_.train("whole", 3, with_checkpoints());
  const auto damage = [&](const std::string& name, const std::function<void()>& how) {
    runs_.copy_until("whole", "cut", 40);
    how();
    for (const int ranks : {1, 2, 3}) {
      runs_.copy_until("whole", "copy", 40);
      std::filesystem::remove_all(runs_ / "copy" / "checkpoints");
      std::filesystem::copy(runs_ / "cut" / "checkpoints", runs_ / "copy" / "checkpoints",
                            std::filesystem::copy_options::recursive);
      const Outcome outcome = runs_.resume("copy", ranks, with_checkpoints());
      for (const Recorder& rank : outcome.ranks) {
        EXPECT_EQ(rank.start.first_step, 30) << name;
        EXPECT_THAT(rank.warnings, ElementsAre(AllOf(HasSubstr("the run goes on from step 30: "),
                                                     HasSubstr("step-40"))));
      }
      EXPECT_EQ(runs_.model("copy"), runs_.model("whole")) << name;
    }
  };
  const std::filesystem::path newest = runs_ / "cut" / "checkpoints" / "step-40";
  damage("a byte", [&] {
    std::fstream file(newest / "rank-0.safetensors", std::ios::in | std::ios::out);
    file.seekp(-1, std::ios::end);
    file.put('x');
  });
  damage("a short file", [&] { std::filesystem::resize_file(newest / "rank-0.safetensors", 9); });
  damage("no file", [&] { std::filesystem::remove(newest / "rank-0.safetensors"); });
  damage("a torn manifest", [&] { std::filesystem::resize_file(newest / "manifest.json", 99); });
}

TEST_F(Resume, WithoutAWholeCheckpointNamesTheNewest) {
  runs_.train("run", 2, with_checkpoints());
  for (const auto& step : std::filesystem::directory_iterator(runs_ / "run" / "checkpoints")) {
    std::filesystem::resize_file(step.path() / "manifest.json", 50);
  }
  EXPECT_THAT(
      [&] { runs_.resume("run", 3); },
      ThrowsMessage<DataError>(AllOf(HasSubstr("no checkpoint is whole (of 4); the newest: "),
                                     HasSubstr("step-40/manifest.json"))));
}

TEST_F(Resume, FromAChosenStepForgetsTheLaterOnes) {
  runs_.train("whole", 2, with_checkpoints());
  runs_.copy_until("whole", "cut", 40);
  const Outcome outcome = runs_.resume("cut", 3, with_checkpoints(), {}, 20);
  EXPECT_EQ(outcome.ranks.front().start.first_step, 20);
  EXPECT_EQ(runs_.model("cut"), runs_.model("whole"));
  runs_.resume("cut", 3, with_checkpoints() + Words{"training.steps=15"}, {}, 10);
  EXPECT_THAT(runs_.checkpoints("cut"), ElementsAre(10, 15));
  EXPECT_THAT([&] { runs_.resume("cut", 3, {}, {}, 7); },
              ThrowsMessage<UsageError>(HasSubstr("no checkpoint of step 7, only of: 15, 10")));
}

// A chosen checkpoint is what was asked for: no other one is taken for it.
TEST_F(Resume, FromAChosenStepThatIsDamagedIsAnError) {
  runs_.train("run", 2, with_checkpoints());
  std::filesystem::resize_file(runs_ / "run/checkpoints/step-20/manifest.json", 50);
  EXPECT_THAT([&] { runs_.resume("run", 3, {}, {}, 20); },
              ThrowsMessage<DataError>(
                  AllOf(HasSubstr("step-20/manifest.json"), HasSubstr("; choose another step"))));
}

/// The operating system's files, with a folder of its own in the place of `folder`: what another
/// host sees.
class FilesOfAHost final : public Files {
 public:
  FilesOfAHost(std::filesystem::path folder, std::filesystem::path own)
      : folder_(std::move(folder)), own_(std::move(own)) {}

  std::unique_ptr<File> open(const std::filesystem::path& path) override {
    return real_files().open(here(path));
  }
  std::unique_ptr<File> create(const std::filesystem::path& path,
                               const std::filesystem::path& shown_as) override {
    return real_files().create(here(path), shown_as);
  }
  std::unique_ptr<File> open_to_append(const std::filesystem::path& path) override {
    return real_files().open_to_append(here(path));
  }
  std::unique_ptr<File> lock(const std::filesystem::path& path, std::string_view holder) override {
    return real_files().lock(here(path), holder);
  }
  FileKind kind_of(const std::filesystem::path& path) override {
    return real_files().kind_of(here(path));
  }
  bool is_link(const std::filesystem::path& path) override {
    return real_files().is_link(here(path));
  }
  std::vector<std::string> names_in(const std::filesystem::path& path) override {
    return real_files().names_in(here(path));
  }
  void make_directory(const std::filesystem::path& path) override {
    real_files().make_directory(here(path));
  }
  void rename(const std::filesystem::path& from, const std::filesystem::path& to) override {
    real_files().rename(here(from), here(to));
  }
  void remove(const std::filesystem::path& path) override { real_files().remove(here(path)); }
  void sync_directory(const std::filesystem::path& path) override {
    real_files().sync_directory(here(path));
  }

 private:
  std::filesystem::path here(const std::filesystem::path& path) const {
    const std::string text = path.string(), folder = folder_.string();
    if (!text.starts_with(folder)) return path;
    return own_.string() + text.substr(folder.size());
  }

  std::filesystem::path folder_, own_;
};

class ResumeOnHosts : public Resume {
 protected:
  // Resumes "cut" on two ranks, of which the second one sees "other" in its place.
  Outcome resume() {
    const Config config = runs_.config("cut", with_checkpoints());
    FilesOfAHost other(runs_ / "cut", runs_ / "other");
    Outcome outcome;
    outcome.summaries.resize(2);
    outcome.ranks.resize(2);
    run_ranks(2, [&](Communicator& world) {
      const auto rank = static_cast<std::size_t>(world.rank());
      outcome.summaries[rank] =
          trireme::train(config, world, outcome.ranks[rank], {.resume = true},
                         rank == 0 ? real_files() : static_cast<Files&>(other));
    });
    return outcome;
  }
};

TEST_F(ResumeOnHosts, GoesOnFromTheNewestCheckpointThatAllHave) {
  runs_.train("whole", 2, with_checkpoints());
  for (const auto& [newest, others] : {std::pair(40, 20), std::pair(10, 30)}) {
    runs_.copy_until("whole", "cut", newest);
    runs_.copy_until("whole", "other", others);
    const Outcome outcome = resume();
    for (const Recorder& rank : outcome.ranks) {
      EXPECT_EQ(rank.start.first_step, std::min(newest, others));
      EXPECT_THAT(rank.warnings,
                  ElementsAre(AllOf(
                      HasSubstr(fmt::format("from step {}: ", std::min(newest, others))),
                      HasSubstr(fmt::format("rank {} has no checkpoint of step {}",
                                            newest > others ? 1 : 0, std::max(newest, others))))));
    }
    EXPECT_EQ(runs_.model("cut"), runs_.model("whole"));
  }
}

TEST_F(ResumeOnHosts, WithoutACheckpointOnOneIsAnErrorOnAll) {
  runs_.train("whole", 2, with_checkpoints());
  runs_.copy_until("whole", "cut", 20);
  std::filesystem::create_directories(runs_ / "other");
  EXPECT_THAT([&] { resume(); },
              ThrowsMessage<DataError>(HasSubstr("rank 0: 20, 10; rank 1: none")));
}

TEST_F(Resume, OfAFinishedRunHasNoLoss) {
  runs_.train("run", 2);
  EXPECT_FALSE(runs_.resume("run", 3).summaries.front().loss);
}

TEST_F(Resume, FindsTheConfigurationInTheCheckpoint) {
  runs_.train("run", 3, {"optimizer.lr=0.0625", "data.standardize=true"});
  const auto state = state_of_checkpoint(runs_ / "run" / "checkpoints" / "step-40");
  const auto written = config_of_checkpoint(state, "the checkpoint");
  ASSERT_TRUE(written);
  EXPECT_EQ(written->optimizer.lr, 0.0625);
  EXPECT_THAT(differences(read_run_config(runs_ / "run" / "config.toml", {}), *written), IsEmpty());
}

TEST_F(Resume, ContinuesTheMetricsAtTheCheckpoint) {
  runs_.train("whole", 2, with_checkpoints());
  runs_.copy_until("whole", "cut", 20);
  // A crash may tear the last line.
  std::ofstream(runs_ / "cut" / "metrics.jsonl", std::ios::app) << "{\"step\":41,\"lo";
  runs_.resume("cut", 3, with_checkpoints());
  const auto step_and_loss = [&](const std::string& run) {
    std::vector<std::string> lines;
    for (const std::string& line : runs_.metrics(run)) {
      lines.push_back(line.substr(0, line.find("\"samples_per_second\"")));
    }
    return lines;
  };
  EXPECT_EQ(step_and_loss("cut"), step_and_loss("whole"));
}

TEST_F(Resume, CompressedOnOtherRanksStartsTheResidualsAnew) {
  const Words words = with_checkpoints() + Words{"communication.compression=top_k",
                                                 "communication.compression_ratio=0.2"};
  runs_.train("whole", 3, words);
  for (const int ranks : {1, 2}) {
    runs_.copy_until("whole", "cut", 20);
    const Outcome outcome = runs_.resume("cut", ranks, words);
    EXPECT_THAT(outcome.ranks.front().start.not_restored, Not(IsEmpty()));
    EXPECT_EQ(outcome.summaries.front().steps, 40);
  }
}

// What a codec has left out is in a checkpoint of each rank's own: without it the bits differ.
TEST_F(Resume, OfServersNeedsWhatTheCodecHasLeftOut) {
  const Words words =
      with_checkpoints() + Words{"communication.mode=asynchronous", "communication.group_size=0",
                                 "communication.compression=top_k",
                                 "communication.compression_ratio=0.2"};
  runs_.train("whole", 2, words);
  runs_.copy_until("whole", "cut", 20);
  runs_.resume("cut", 2, words);
  EXPECT_EQ(runs_.model("cut"), runs_.model("whole"));
  runs_.copy_until("whole", "cut", 20);
  std::filesystem::remove_all(runs_ / "cut" / "checkpoints" / "rank-0");
  const Outcome outcome = runs_.resume("cut", 2, words);
  EXPECT_THAT(outcome.ranks.front().start.not_restored, Not(IsEmpty()));
  EXPECT_NE(runs_.model("cut"), runs_.model("whole"));
}

}  // namespace
}  // namespace trireme::test
