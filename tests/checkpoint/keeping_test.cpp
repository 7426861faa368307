// Which checkpoints are kept, their copies in a second place, and what is found to be damaged, on a
// file system that fails, is full or loses power at every one of its operations.

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <set>

#include "tests/base/memory_files.h"
#include "tests/checkpoint/tensors.h"
#include "tests/comm/ranks.h"
#include "trireme/base/error.h"
#include "trireme/checkpoint/condition.h"
#include "trireme/checkpoint/mirror.h"
#include "trireme/checkpoint/retention.h"
#include "trireme/checkpoint/step_folder.h"
#include "trireme/comm/self/self.h"

namespace trireme {
namespace {

namespace fs = std::filesystem;
using test::Kept;
using test::MemoryFiles;
using test::OwnedTensor;
using testing::AnyOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::UnorderedElementsAre;
using Steps = std::set<std::int64_t>;

constexpr std::int64_t kCount = 100;
constexpr int kMaxOperations = 400;
const fs::path kDirectory = "/runs/one/checkpoints";
const fs::path kMirror = "/elsewhere/one";

// A rank's part of a checkpoint. All values of its tensor are the step.
void save_part(Communicator& world, Files& files, std::int64_t step, const Retention& retention,
               std::optional<double> loss) {
  const Region region = Region({kCount}).slice(partition(kCount, world.size(), world.rank()));
  const OwnedTensor<> tensor("weight", region, static_cast<float>(step));
  RunState state{.step = step};
  if (loss) state.sections[sections::kEvaluation]["loss"] = *loss;
  save_checkpoint(kDirectory, world, state, std::span(&tensor.tensor, 1), retention, files);
}

void save(Files& files, std::int64_t step, const Retention& retention = {},
          std::optional<double> loss = std::nullopt) {
  save_part(*self_communicator(), files, step, retention, loss);
}

void save_on_two_ranks(Files& files, std::int64_t step) {
  test::run_ranks(2, [&](Communicator& world) { save_part(world, files, step, {}, {}); });
}

void copy(Files& files, std::int64_t step, const Retention& retention = {}) {
  mirror_checkpoint(kDirectory / fmt::format("step-{}", step), kMirror, retention, files);
}

Steps steps_in(const fs::path& directory, Files& files) {
  Steps steps;
  for (const auto& [step, path] : complete_checkpoints(directory, files)) steps.insert(step);
  return steps;
}

// The step of the newest checkpoint in `directory`, which must be whole; 0 if there is none.
std::int64_t newest_whole(const fs::path& directory, Files& files) {
  const auto latest = latest_checkpoint(directory, files);
  if (!latest) return 0;
  EXPECT_THAT(damage_by_hash(*latest, files), IsEmpty());
  const OwnedTensor<> tensor("weight", {kCount}, 0, kCount);
  const RunState state = load_checkpoint(*latest, std::span(&tensor.tensor, 1), files);
  EXPECT_THAT(tensor.values, testing::Each(static_cast<float>(state.step)));
  return state.step;
}

std::string error_of(const std::function<void()>& action) {
  try {
    action();
    return "";
  } catch (const DataError& error) {
    return error.what();
  }
}

TEST(Retention, KeepsTheNewest) {
  MemoryFiles files;
  for (std::int64_t step = 10; step <= 60; step += 10) save(files, step, {.newest = 3});
  EXPECT_THAT(steps_in(kDirectory, files), ElementsAre(40, 50, 60));
  save(files, 70, {.newest = 0});
  EXPECT_THAT(steps_in(kDirectory, files), ElementsAre(40, 50, 60, 70));
}

TEST(Retention, KeepsTheFirstOfEachSoManyStepsForEver) {
  MemoryFiles files;
  // 100, 200 and 500 are there; the first after 300 is 330, and none is after 400 and before 500.
  for (const std::int64_t step : {30, 60, 100, 130, 160, 200, 230, 330, 360, 500, 530, 560, 590}) {
    save(files, step, {.newest = 2, .every_steps = 100});
  }
  EXPECT_THAT(steps_in(kDirectory, files), ElementsAre(100, 200, 330, 500, 560, 590));
}

TEST(Retention, KeepsTheBestOfAllTimes) {
  MemoryFiles files;
  const Retention retention{.newest = 1, .best = 2};
  const std::vector<double> losses = {5, 2, 4, 1.5, 3, 2, 6, 7};
  for (std::size_t i = 0; i < losses.size(); ++i) {
    save(files, static_cast<std::int64_t>(10 * (i + 1)), retention, losses[i]);
  }
  // Of the two with 2, the first.
  EXPECT_THAT(steps_in(kDirectory, files), ElementsAre(20, 40, 80));
  save(files, 90, retention);  // was not evaluated
  EXPECT_THAT(steps_in(kDirectory, files), ElementsAre(20, 40, 90));
}

TEST(Retention, KnowsWhichMetricsAreBetterIfTheyAreHigher) {
  const MetricsByStep accuracy = {{1, 0.5}, {2, 0.9}, {3, 0.7}, {4, std::nullopt}};
  const auto best = [&](const std::string& metric) {
    Steps steps;
    const Retention retention{.newest = 1, .best = 1, .metric = metric};
    for (const auto& [step, reasons] : kept_checkpoints(retention, accuracy)) {
      if (std::ranges::count(reasons, KeptAs::kBest) > 0) steps.insert(step);
    }
    return steps;
  };
  for (const char* metric : {"accuracy", "r2"}) EXPECT_THAT(best(metric), ElementsAre(2));
  for (const char* metric : {"loss", "perplexity", "bits_per_byte"}) {
    EXPECT_THAT(best(metric), ElementsAre(1)) << metric;
  }
}

TEST(Retention, SaysEveryReason) {
  const Retention retention{.newest = 2, .every_steps = 20, .best = 1};
  const auto kept = kept_checkpoints(retention, {{10, 3.0}, {20, 2.0}, {30, 1.0}, {40, 4.0}});
  EXPECT_THAT(kept.at(20), ElementsAre(KeptAs::kEvery));
  EXPECT_THAT(kept.at(30), ElementsAre(KeptAs::kNewest, KeptAs::kBest));
  EXPECT_THAT(kept.at(40), ElementsAre(KeptAs::kNewest, KeptAs::kEvery));
  EXPECT_EQ(kept.size(), 3u);
}

// At every operation in turn: what is to be kept for ever is never lost.
TEST(Retention, LosesNothingToAnyFailure) {
  const Retention retention{.newest = 1, .every_steps = 20, .best = 1};
  int failures = 0;
  for (bool has_struck = true; has_struck; ++failures) {
    ASSERT_LT(failures, kMaxOperations);
    MemoryFiles files;
    save(files, 10, retention, 1);
    save(files, 20, retention, 2);
    save(files, 30, retention, 3);
    files.fail_at(failures, EIO);
    const std::string error = error_of([&] { save(files, 40, retention, 4); });
    has_struck = files.clear_fault();
    // A manifest that cannot be read now makes its checkpoint none of the best.
    const Steps steps = steps_in(kDirectory, files);
    EXPECT_TRUE(steps.contains(20)) << failures;
    EXPECT_THAT(newest_whole(kDirectory, files), AnyOf(30, 40)) << failures;
    if (!has_struck) {
      EXPECT_THAT(steps, ElementsAre(10, 20, 40));
    }
  }
  EXPECT_GT(failures, 30);
}

TEST(Mirror, HasTheSameBytesAndKeepsAsMany) {
  MemoryFiles files;
  for (const std::int64_t step : {10, 20, 30}) {
    save_on_two_ranks(files, step);
    copy(files, step);
  }
  EXPECT_THAT(steps_in(kMirror, files), ElementsAre(20, 30));
  for (const std::string& name : files.names_in(kDirectory / "step-30")) {
    EXPECT_EQ(read_file(kMirror / "step-30" / name, files),
              read_file(kDirectory / "step-30" / name, files));
  }
  EXPECT_THAT(files.names_in(kMirror / "step-30"),
              UnorderedElementsAre("manifest.json", "rank-0.safetensors", "rank-1.safetensors"));
  // The run goes on from an earlier step.
  save_on_two_ranks(files, 25);
  copy(files, 25);
  EXPECT_THAT(steps_in(kMirror, files), ElementsAre(20, 25));
}

TEST(Mirror, DoesNotSpreadADamagedCheckpoint) {
  MemoryFiles files;
  save_on_two_ranks(files, 10);
  copy(files, 10);
  save_on_two_ranks(files, 20);
  const fs::path file = kDirectory / "step-20" / "rank-1.safetensors";
  std::string bytes = read_file(file, files);
  bytes.back() ^= 1;
  write_file_atomically(file, bytes, files);
  EXPECT_THAT(error_of([&] { copy(files, 20); }),
              HasSubstr("/rank-1.safetensors: the file is damaged: its SHA-256 must be "));
  EXPECT_THAT(files.names_in(kMirror), ElementsAre("step-10"));
}

// At every operation in turn, of which not all write.
TEST(Mirror, ThatFailsKeepsItsLastCopyAndLeavesTheCheckpointAlone) {
  int failures = 0;
  for (bool has_struck = true; has_struck; ++failures) {
    ASSERT_LT(failures, kMaxOperations);
    MemoryFiles files;
    save(files, 10, {.newest = 1});
    copy(files, 10, {.newest = 1});
    save(files, 20, {.newest = 1});
    files.fail_at(failures, EIO);
    const std::string error = error_of([&] { copy(files, 20, {.newest = 1}); });
    has_struck = files.clear_fault();
    EXPECT_EQ(has_struck, !error.empty()) << failures;
    EXPECT_EQ(newest_whole(kDirectory, files), 20);
    EXPECT_THAT(newest_whole(kMirror, files), AnyOf(10, 20)) << failures;
    EXPECT_EQ(files.kind_of(kMirror / "step-20.partial"), FileKind::kNone) << failures;
    // The next copy is made all the same.
    save(files, 30, {.newest = 1});
    copy(files, 30, {.newest = 1});
    EXPECT_THAT(files.names_in(kMirror), ElementsAre("step-30"));
  }
  EXPECT_GT(failures, 30);
}

TEST(Mirror, ThatFillsUpKeepsItsLastCopy) {
  int failures = 0;
  for (std::int64_t space = 0;; space += 61) {
    MemoryFiles files;
    save(files, 10, {.newest = 1});
    copy(files, 10, {.newest = 1});
    save(files, 20, {.newest = 1});
    files.limit_space(space);
    const std::string error = error_of([&] { copy(files, 20, {.newest = 1}); });
    files.clear_fault();
    EXPECT_EQ(newest_whole(kMirror, files), error.empty() ? 20 : 10);
    if (error.empty()) break;
    ++failures;
    EXPECT_THAT(error, HasSubstr("cannot write: No space left on device"));
    EXPECT_THAT(files.names_in(kMirror), ElementsAre("step-10"));
  }
  EXPECT_GT(failures, 10);
}

class MirrorCrash : public testing::TestWithParam<Kept> {};

TEST_P(MirrorCrash, LeavesTheOldOrTheNewCopyWhole) {
  int cuts = 0;
  for (bool has_struck = true; has_struck; ++cuts) {
    ASSERT_LT(cuts, kMaxOperations);
    MemoryFiles files;
    save(files, 10, {.newest = 1});
    copy(files, 10, {.newest = 1});
    save(files, 20, {.newest = 1});
    files.cut_power_at(cuts);
    const std::string error = error_of([&] { copy(files, 20, {.newest = 1}); });
    has_struck = files.clear_fault();
    files.restore_power(GetParam());
    EXPECT_EQ(newest_whole(kDirectory, files), 20) << cuts;
    if (error.empty()) {
      EXPECT_EQ(newest_whole(kMirror, files), 20);
    } else {
      EXPECT_THAT(newest_whole(kMirror, files), AnyOf(10, 20)) << cuts;
    }
  }
  EXPECT_GT(cuts, 20);
}

INSTANTIATE_TEST_SUITE_P(
    , MirrorCrash, testing::Values(Kept::kNothing, Kept::kNames, Kept::kNamesAndHalfOfContents),
    [](const auto& info) { return fmt::format("Keeping{}", static_cast<int>(info.param)); });

// Every byte of every file in turn is another one, or the last.
TEST(Condition, NamesTheFileWithAFlippedBitOrACutEnd) {
  MemoryFiles files;
  save_on_two_ranks(files, 10);
  const fs::path folder = kDirectory / "step-10";
  EXPECT_THAT(damage_by_hash(folder, files), IsEmpty());
  for (const std::string& name : files.names_in(folder)) {
    const std::string whole = read_file(folder / name, files);
    const auto expect_found = [&](const std::string& bytes, bool by_size) {
      write_file_atomically(folder / name, bytes, files);
      EXPECT_THAT(damage_by_hash(folder, files), ElementsAre(HasSubstr(name)));
      if (by_size) {
        EXPECT_THAT(damage_by_size(folder, files), ElementsAre(HasSubstr(name)));
      }
    };
    for (std::size_t at = 0; at < whole.size(); at += 7) {
      std::string bytes = whole;
      bytes[at] ^= static_cast<char>(1 << at % 8);
      expect_found(bytes, name == "manifest.json");
      expect_found(whole.substr(0, at), true);
    }
    write_file_atomically(folder / name, whole, files);
  }
}

TEST(Condition, NamesEveryDamagedFile) {
  MemoryFiles files;
  save_on_two_ranks(files, 10);
  const fs::path folder = kDirectory / "step-10";
  write_file_atomically(folder / "rank-0.safetensors", "torn", files);
  files.remove(folder / "rank-1.safetensors");
  for (const auto& damage : {damage_by_hash(folder, files), damage_by_size(folder, files)}) {
    EXPECT_THAT(damage,
                ElementsAre(HasSubstr("rank-0.safetensors: the file is damaged: it must have "),
                            HasSubstr("rank-1.safetensors")));
  }
}

}  // namespace
}  // namespace trireme
