#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <fstream>
#include <functional>

#include "tests/checkpoint/faulty_files.h"
#include "tests/checkpoint/tensors.h"
#include "tests/comm/ranks.h"
#include "tests/formats/temporary_folder.h"
#include "trireme/base/error.h"

namespace trireme {
namespace {

namespace fs = std::filesystem;
using test::OwnedTensor;

constexpr std::int64_t kCount = 1000;
constexpr int kMaxOperations = 200;

// Every value of the run's tensor is `value`, and the state says so too.
void save(const fs::path& directory, std::int64_t step, float value, int keep = 1) {
  test::run_ranks(1, [&](Communicator& world) {
    const OwnedTensor<> tensor("weight", {kCount}, 0, kCount, value);
    save_checkpoint(directory, world, {step, {{"value", std::to_string(value)}}},
                    std::span(&tensor.tensor, 1), keep);
  });
}

// The value of the latest checkpoint, which must be whole.
float latest_value(const fs::path& directory) {
  const auto latest = latest_checkpoint(directory);
  if (!latest) throw DataError("no checkpoint is left");
  const OwnedTensor<> tensor("weight", {kCount}, 0, kCount);
  const RunState state = load_checkpoint(*latest, std::span(&tensor.tensor, 1));
  const float value = tensor.values[0];
  EXPECT_THAT(tensor.values, testing::Each(value));
  EXPECT_EQ(state.metadata.at("value"), std::to_string(value));
  return value;
}

std::vector<std::string> names_in(const fs::path& directory) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(directory))
    names.push_back(entry.path().filename());
  return names;
}

// The status that a forked process ends with: 0 where `action` returns, 1 where it throws.
int in_a_process(const std::function<void()>& action) {
  const pid_t child = ::fork();
  if (child == 0) {
    try {
      action();
      ::_exit(testing::Test::HasFailure() ? 2 : 0);
    } catch (...) {
      ::_exit(1);
    }
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

// Cuts the power before each file operation in turn of save(step, 2) over save(1, 1).
void cut_power_everywhere(std::int64_t step) {
  int cuts = 0;
  for (int status = test::kPowerCutStatus; status != 0; ++cuts) {
    ASSERT_LT(cuts, kMaxOperations);
    const TemporaryFolder folder;
    save(folder.path(), 1, 1);
    status = in_a_process([&] {
      test::arm({test::Fault::kPowerCut, cuts});
      save(folder.path(), step, 2);
    });
    ASSERT_TRUE(status == 0 || status == test::kPowerCutStatus) << status;
    const float value = latest_value(folder.path());
    EXPECT_TRUE(value == 2 || (value == 1 && status != 0)) << value;

    save(folder.path(), 3, 3);
    EXPECT_EQ(latest_value(folder.path()), 3);
    EXPECT_THAT(names_in(folder.path()), testing::ElementsAre("step-3"));
  }
  EXPECT_GT(cuts, 10);
}

TEST(CheckpointCrash, AtAnyFileOperationLeavesTheOldOrTheNewCheckpointWhole) {
  cut_power_everywhere(2);
}

TEST(CheckpointCrash, WhileReplacingAStepLeavesTheOldOrTheNewOneWhole) {
  cut_power_everywhere(1);
}

TEST(CheckpointCrash, OfTheFirstCheckpointLeavesNothingThatLooksLikeOne) {
  for (int cut = 0; cut < 5; ++cut) {
    const TemporaryFolder folder;
    ASSERT_EQ(test::kPowerCutStatus, in_a_process([&] {
                test::arm({test::Fault::kPowerCut, cut});
                save(folder.path(), 1, 1);
              }));
    EXPECT_FALSE(latest_checkpoint(folder.path()));
  }
}

TEST(CheckpointFailure, OfAnyFileOperationIsAnErrorAndLeavesAWholeCheckpoint) {
  int failures = 0;
  for (bool struck = true; struck; ++failures) {
    ASSERT_LT(failures, kMaxOperations);
    const TemporaryFolder folder;
    save(folder.path(), 1, 1);
    std::string error;
    test::arm({test::Fault::kError, failures});
    try {
      save(folder.path(), 2, 2);
    } catch (const DataError& caught) {
      error = caught.what();
    }
    struck = test::disarm();
    const float value = latest_value(folder.path());
    if (error.empty()) {
      EXPECT_EQ(value, 2);
    } else {
      EXPECT_THAT(error, testing::HasSubstr("No space left on device"));
      EXPECT_THAT(error, testing::HasSubstr(folder.path().string()));
    }
    EXPECT_FALSE(fs::exists(folder.path() / "step-2.partial"));
    save(folder.path(), 3, 3);
    EXPECT_THAT(names_in(folder.path()), testing::ElementsAre("step-3"));
  }
  EXPECT_GT(failures, 10);
}

// A file system of 64 KiB where this process may mount one, a limit on the size of files otherwise.
void limit_space(const fs::path& folder) {
  const bool mounted = ::unshare(CLONE_NEWNS) == 0 &&
                       ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
                       ::mount("none", folder.c_str(), "tmpfs", 0, "size=64k") == 0;
  if (mounted) return;
  ::signal(SIGXFSZ, SIG_IGN);
  const rlimit limit{40960, 40960};
  ::setrlimit(RLIMIT_FSIZE, &limit);
}

TEST(CheckpointFailure, OfAFullDiskIsTheSameErrorOnEveryRankAndLeavesTheLastOne) {
  const TemporaryFolder folder;
  EXPECT_EQ(0, in_a_process([&] {
              limit_space(folder.path());
              save(folder.path(), 1, 1);
              std::vector<std::string> errors(3);
              test::run_ranks(3, [&](Communicator& world) {
                constexpr std::int64_t kCount = 1 << 20;
                const OwnedTensor<> tensor("1", {kCount}, 0, kCount);
                try {
                  // One writer: of two, either may be the first to find the disk full.
                  const std::span pieces(&tensor.tensor, world.rank() == 1 ? 1 : 0);
                  save_checkpoint(folder.path(), world, {2, {}}, pieces, 1);
                } catch (const DataError& error) {
                  errors[static_cast<std::size_t>(world.rank())] = error.what();
                }
              });
              EXPECT_THAT(errors[0], testing::HasSubstr("rank-1.safetensors: cannot write: "));
              EXPECT_THAT(errors[0], testing::HasSubstr("(rank 1 of 3)"));
              EXPECT_THAT(errors, testing::Each(errors[0]));
              EXPECT_EQ(latest_value(folder.path()), 1);
              EXPECT_THAT(names_in(folder.path()), testing::ElementsAre("step-1"));
            }));
}

}  // namespace
}  // namespace trireme
