// Checkpoints on a file system that fails, is full or loses power at every one of its operations.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>

#include "tests/base/memory_files.h"
#include "tests/checkpoint/tensors.h"
#include "tests/comm/ranks.h"
#include "trireme/base/error.h"

namespace trireme {
namespace {

namespace fs = std::filesystem;
using test::Kept;
using test::MemoryFiles;
using test::OwnedTensor;
using testing::ElementsAre;
using testing::HasSubstr;

constexpr std::int64_t kCount = 1000;
constexpr int kMaxOperations = 200;
const fs::path kDirectory = "/runs/one/checkpoints";

// Each rank has a slice of the run's tensor. All its values are `value`, which the run's state
// holds too. Returns the error of save_checkpoint(), which must be the same on every rank, or "".
std::string save(MemoryFiles& files, std::int64_t step, float value, int ranks = 1, int keep = 1) {
  std::vector<std::string> errors(static_cast<std::size_t>(ranks));
  test::run_ranks(ranks, [&](Communicator& world) {
    const Region region = Region({kCount}).slice(partition(kCount, ranks, world.rank()));
    const OwnedTensor<> tensor("weight", region, value);
    try {
      save_checkpoint(kDirectory, world, {step, {{"value", std::to_string(value)}}},
                      std::span(&tensor.tensor, 1), {.newest = keep}, files);
    } catch (const DataError& error) {
      errors[static_cast<std::size_t>(world.rank())] = error.what();
    }
  });
  EXPECT_THAT(errors, testing::Each(errors[0]));
  return errors[0];
}

// The value of the latest checkpoint, which must be whole; 0 if there is none.
float latest_value(MemoryFiles& files) {
  const auto latest = latest_checkpoint(kDirectory, files);
  if (!latest) return 0;
  const OwnedTensor<> tensor("weight", {kCount}, 0, kCount);
  const RunState state = load_checkpoint(*latest, std::span(&tensor.tensor, 1), files);
  const float value = tensor.values[0];
  EXPECT_THAT(tensor.values, testing::Each(value));
  EXPECT_EQ(state.metadata.at("value"), std::to_string(value));
  return value;
}

// After any failure the next checkpoint is written and is the only one.
void expect_goes_on(MemoryFiles& files) {
  EXPECT_EQ(save(files, 3, 3), "");
  EXPECT_EQ(latest_value(files), 3);
  EXPECT_THAT(files.names_in(kDirectory), ElementsAre("step-3"));
}

class CheckpointCrash : public testing::TestWithParam<Kept> {
 protected:
  // Cuts the power at each operation in turn of saving 2 as `step`, where `old` was saved before as
  // step 1 (0: nothing was), and once after the last operation.
  static void cut_power_everywhere(float old, std::int64_t step, int ranks) {
    int cuts = 0;
    for (bool has_struck = true; has_struck; ++cuts) {
      ASSERT_LT(cuts, kMaxOperations);
      MemoryFiles files;
      if (old > 0) {
        ASSERT_EQ(save(files, 1, old), "");
      }
      files.cut_power_at(cuts);
      const std::string error = save(files, step, 2, ranks);
      has_struck = files.clear_fault();
      EXPECT_EQ(has_struck, !error.empty());
      files.restore_power(GetParam());

      const float value = latest_value(files);
      if (error.empty()) {
        EXPECT_EQ(value, 2);
      } else {
        EXPECT_TRUE(value == old || value == 2) << value << " after " << cuts;
      }
      expect_goes_on(files);
    }
    EXPECT_GT(cuts, 20);
  }
};

TEST_P(CheckpointCrash, LeavesTheOldOrTheNewCheckpointWhole) {
  cut_power_everywhere(1, 2, 1);
}

TEST_P(CheckpointCrash, OfSeveralRanksLeavesTheOldOrTheNewCheckpointWhole) {
  cut_power_everywhere(1, 2, 3);
}

TEST_P(CheckpointCrash, WhileReplacingAStepLeavesTheOldOrTheNewOneWhole) {
  cut_power_everywhere(1, 1, 1);
}

TEST_P(CheckpointCrash, OfTheFirstCheckpointLeavesNothingThatLooksLikeOne) {
  cut_power_everywhere(0, 1, 1);
}

std::string name_of(const testing::TestParamInfo<Kept>& info) {
  if (info.param == Kept::kNothing) return "KeepingNothing";
  return info.param == Kept::kNames ? "KeepingNames" : "KeepingNamesAndHalfOfContents";
}

INSTANTIATE_TEST_SUITE_P(, CheckpointCrash,
                         testing::Values(Kept::kNothing, Kept::kNames,
                                         Kept::kNamesAndHalfOfContents),
                         name_of);

// A disk that is full at any operation, of which not all write.
TEST(CheckpointFailure, OfAnyOperationIsAnErrorAndLeavesAWholeCheckpoint) {
  for (const int ranks : {1, 3}) {
    int failures = 0;
    for (bool has_struck = true; has_struck; ++failures) {
      ASSERT_LT(failures, kMaxOperations);
      MemoryFiles files;
      save(files, 1, 1);
      files.fail_at(failures, ENOSPC);
      const std::string error = save(files, 2, 2, ranks);
      has_struck = files.clear_fault();
      EXPECT_EQ(has_struck, !error.empty()) << failures;
      const float value = latest_value(files);
      if (has_struck) {
        EXPECT_TRUE(value == 1 || value == 2) << value;
        EXPECT_THAT(error, HasSubstr("No space left on device"));
        EXPECT_THAT(error, HasSubstr(kDirectory.parent_path().string()));
      } else {
        EXPECT_EQ(value, 2);
      }
      EXPECT_EQ(files.kind_of(kDirectory / "step-2.partial"), FileKind::kNone);
      expect_goes_on(files);
    }
    EXPECT_GT(failures, 20);
  }
}

TEST(CheckpointFailure, OfADiskThatFillsUpLeavesTheLastOne) {
  int failures = 0;
  for (std::int64_t space = 0;; space += 61) {
    MemoryFiles files;
    save(files, 1, 1);
    files.limit_space(space);
    const std::string error = save(files, 2, 2, 3);
    files.clear_fault();
    if (error.empty()) {
      EXPECT_EQ(latest_value(files), 2);
      break;
    }
    ++failures;
    EXPECT_THAT(error, HasSubstr("cannot write: No space left on device (rank "));
    EXPECT_EQ(latest_value(files), 1);
    EXPECT_THAT(files.names_in(kDirectory), ElementsAre("step-1"));
  }
  EXPECT_GT(failures, 50);
}

TEST(CheckpointFailure, NamesTheFileAndTheRank) {
  MemoryFiles files;
  files.limit_space(2000);
  std::vector<std::string> errors(3);
  test::run_ranks(3, [&](Communicator& world) {
    const OwnedTensor<> tensor("weight", {kCount}, 0, kCount);
    try {
      // One writer: of two, either may be the first to find the disk full.
      const std::span mine(&tensor.tensor, world.rank() == 1 ? 1 : 0);
      save_checkpoint(kDirectory, world, {2, {}}, mine, {.newest = 1}, files);
    } catch (const DataError& error) {
      errors[static_cast<std::size_t>(world.rank())] = error.what();
    }
  });
  EXPECT_THAT(errors[0], HasSubstr("step-2.partial/rank-1.safetensors: cannot write: "));
  EXPECT_THAT(errors[0], HasSubstr("(rank 1 of 3)"));
  EXPECT_THAT(errors, testing::Each(errors[0]));
}

TEST(CheckpointFailure, OfAnyReadIsAnErrorThatNamesThePath) {
  MemoryFiles files;
  save(files, 1, 1, 3);
  int failures = 0;
  for (bool has_struck = true; has_struck; ++failures) {
    ASSERT_LT(failures, kMaxOperations);
    const OwnedTensor<> tensor("weight", {kCount}, 0, kCount);
    files.fail_at(failures, EIO);
    std::string error;
    try {
      load_checkpoint(kDirectory / "step-1", std::span(&tensor.tensor, 1), files);
    } catch (const DataError& caught) {
      error = caught.what();
    }
    has_struck = files.clear_fault();
    EXPECT_EQ(has_struck, !error.empty());
    if (has_struck) {
      EXPECT_THAT(error, HasSubstr("/step-1/"));
    }
  }
  EXPECT_GT(failures, 10);
}

}  // namespace
}  // namespace trireme
