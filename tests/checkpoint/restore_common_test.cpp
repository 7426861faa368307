// Ranks whose directories differ agree on a checkpoint before they load one.

#include "trireme/checkpoint/restore_common.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>

#include "tests/base/memory_files.h"
#include "tests/checkpoint/tensors.h"
#include "tests/comm/ranks.h"
#include "trireme/base/error.h"
#include "trireme/comm/self/self.h"

namespace trireme {
namespace {

using testing::AllOf;
using testing::Each;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr int kRanks = 3;

class RestoreCommon : public testing::Test {
 protected:
  // Writes a checkpoint of one tensor into the file system of `rank`.
  void save(int rank, std::int64_t step, float value = 1) {
    test::OwnedTensor<float> tensor("w", {1}, 0, 1, value);
    save_checkpoint("run", *self_communicator(), {.step = step}, std::span(&tensor.tensor, 1),
                    {.newest = 0}, files_[static_cast<std::size_t>(rank)]);
  }

  void damage(int rank, std::int64_t step) {
    write_file_atomically("run/step-" + std::to_string(step) + "/rank-0.safetensors", "torn",
                          files_[static_cast<std::size_t>(rank)]);
  }

  struct Result {
    std::int64_t step = -1;
    float value = 0;
    std::vector<std::string> passed_over;
    std::string error;
  };

  // What each rank gets.
  std::array<Result, kRanks> restore(std::optional<std::int64_t> step = std::nullopt) {
    std::array<Result, kRanks> results;
    test::run_ranks(kRanks, [&](Communicator& world) {
      const auto rank = static_cast<std::size_t>(world.rank());
      test::OwnedTensor<float> tensor("w", {1}, 0, 1);
      const auto load = [&](const std::filesystem::path& folder) {
        load_checkpoint(folder, std::span(&tensor.tensor, 1), files_[rank]);
      };
      try {
        const auto found = restore_common("run", step, world, load, files_[rank]);
        if (found) {
          results[rank] = {found->step, tensor.values[0], found->passed_over, ""};
        }
      } catch (const DataError& error) {
        results[rank].error = std::string("data: ") + error.what();
      } catch (const UsageError& error) {
        results[rank].error = std::string("usage: ") + error.what();
      }
    });
    return results;
  }

  void expect_error(const std::array<Result, kRanks>& results,
                    const testing::Matcher<std::string>& matcher) {
    for (const Result& result : results) EXPECT_THAT(result.error, matcher);
  }

  std::array<test::MemoryFiles, kRanks> files_;
};

TEST_F(RestoreCommon, TakesTheNewestThatAllRanksHave) {
  for (const int rank : {0, 1, 2}) save(rank, 20, 2);
  save(0, 40, 4);
  save(1, 40, 4);
  save(2, 30, 3);
  for (const Result& result : restore()) {
    EXPECT_EQ(result.error, "");
    EXPECT_EQ(result.step, 20);
    EXPECT_EQ(result.value, 2);
    EXPECT_THAT(result.passed_over,
                ElementsAre(HasSubstr("run: rank 2 has no checkpoint of step 40")));
  }
}

TEST_F(RestoreCommon, IsNothingIfNoRankHasAny) {
  for (const Result& result : restore()) {
    EXPECT_EQ(result.error, "");
    EXPECT_EQ(result.step, -1);
  }
}

TEST_F(RestoreCommon, SaysWhichRanksHaveWhatIfTheyHaveNothingInCommon) {
  save(0, 20);
  save(0, 40);
  expect_error(restore(), AllOf(HasSubstr("data: run: the ranks have no checkpoint in common"),
                                HasSubstr("rank 0: 40, 20; ranks 1, 2: none")));
}

TEST_F(RestoreCommon, OfOneStepSaysWhichRanksLackIt) {
  for (const int rank : {0, 1, 2}) save(rank, 20, 2);
  save(1, 40);
  expect_error(restore(40), AllOf(HasSubstr("usage: run: no checkpoint of step 40 on ranks 0, 2"),
                                  HasSubstr("all ranks have: 20")));
  expect_error(restore(7), HasSubstr("usage: run: no checkpoint of step 7, only of: 20"));
  for (const Result& result : restore(20)) EXPECT_EQ(result.value, 2);
}

// Ranks that have trained apart have checkpoints of the same steps.
TEST_F(RestoreCommon, PassesOverACheckpointThatIsAnotherOneOnARank) {
  for (const int rank : {0, 1, 2}) {
    save(rank, 20, 2);
    save(rank, 40, rank == 1 ? 5 : 4);
  }
  for (const Result& result : restore()) {
    EXPECT_EQ(result.step, 20);
    EXPECT_THAT(result.passed_over,
                ElementsAre(HasSubstr("step 40 is another one on rank 1 than on rank 0")));
  }
  expect_error(restore(40), HasSubstr("data: run: the checkpoint of step 40 is another one"));
}

TEST_F(RestoreCommon, PassesOverACheckpointThatIsDamagedOnOneRank) {
  for (const int rank : {0, 1, 2}) {
    save(rank, 20, 2);
    save(rank, 40, 4);
  }
  damage(1, 40);
  for (const Result& result : restore()) {
    EXPECT_EQ(result.step, 20);
    EXPECT_EQ(result.value, 2);
    EXPECT_THAT(result.passed_over, ElementsAre(HasSubstr("step-40/rank-0.safetensors")));
  }
  damage(2, 20);
  expect_error(restore(), AllOf(HasSubstr("no checkpoint is whole (of 2)"), HasSubstr("step-40")));
}

}  // namespace
}  // namespace trireme
