#include "trireme/checkpoint/background_save.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <condition_variable>
#include <mutex>

#include "tests/base/memory_files.h"
#include "tests/comm/ranks.h"
#include "trireme/base/error.h"
#include "trireme/checkpoint/checkpoint.h"

namespace trireme {
namespace {

using testing::HasSubstr;
using testing::ThrowsMessage;

// A door that starts closed.
class Door {
 public:
  void open() {
    const std::lock_guard lock(mutex_);
    is_open_ = true;
    moved_.notify_all();
  }
  void pass() {
    std::unique_lock lock(mutex_);
    moved_.wait(lock, [&] { return is_open_; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable moved_;
  bool is_open_ = false;
};

// A tensor of which each rank has one row.
StateTensor row_of(const Communicator& world, std::vector<float>& row) {
  const auto count = static_cast<std::int64_t>(row.size());
  const Region whole({world.size(), count});
  return {.name = "weight",
          .region = whole.slice({world.rank() * count, (world.rank() + 1) * count}),
          .values = buffer_of(std::span(row))};
}

// The training thread changes the state, and uses its communicator, while the save runs.
TEST(BackgroundSave, WritesTheStateAsItWasWhenItBegan) {
  for (const int ranks : {1, 2, 3}) {
    test::MemoryFiles files;
    Door door;
    test::run_ranks(ranks, [&](Communicator& world) {
      BackgroundSave background(world);
      for (int step = 1; step <= 2; ++step) {
        std::vector<float> row(1000, static_cast<float>(10 * step + world.rank()));
        const StateTensor tensor = row_of(world, row);
        background.start(std::span(&tensor, 1), [&, step](Communicator& saving, auto copies) {
          if (step == 1) door.pass();
          save_checkpoint("/run", saving, {.step = step}, copies, {}, files);
        });
        EXPECT_TRUE(background.is_open());
        std::fill(row.begin(), row.end(), -1.0F);
        std::int64_t sum = 1;
        world.all_reduce(buffer_of(std::span(&sum, 1))).wait();
        EXPECT_EQ(sum, ranks);
        EXPECT_FALSE(step == 1 && background.has_ended());
        world.barrier();
        if (world.rank() == 0) door.open();
        background.wait();
        EXPECT_FALSE(background.is_open());
        std::fill(row.begin(), row.end(), 0.0F);
        load_checkpoint("/run/step-" + std::to_string(step), std::span(&tensor, 1), files);
        EXPECT_EQ(row, std::vector<float>(1000, static_cast<float>(10 * step + world.rank())));
      }
    });
  }
}

TEST(BackgroundSave, AnErrorComesOutOfWaitOnEveryRankAndTheNextSaveIsWell) {
  test::MemoryFiles files;
  test::run_ranks(3, [&](Communicator& world) {
    BackgroundSave background(world);
    std::vector<float> row(10, 1);
    const StateTensor tensor = row_of(world, row);
    const auto write = [&](Communicator& saving, std::span<const StateTensor> copies) {
      save_checkpoint("/run", saving, {.step = 1}, copies, {}, files);
    };
    if (world.rank() == 0) files.limit_space(0);
    world.barrier();
    background.start(std::span(&tensor, 1), write);
    EXPECT_THAT([&] { background.start(std::span(&tensor, 1), write); },
                ThrowsMessage<UsageError>(HasSubstr("before wait()")));
    EXPECT_THAT([&] { background.wait(); },
                ThrowsMessage<DataError>(HasSubstr("No space left on device")));
    world.barrier();
    if (world.rank() == 0) files.clear_fault();
    world.barrier();
    background.start(std::span(&tensor, 1), write);
    EXPECT_NO_THROW(background.wait());
  });
  EXPECT_TRUE(latest_checkpoint("/run", files).has_value());
}

// Nothing outlives the object.
TEST(BackgroundSave, IsWaitedForByTheDestructor) {
  test::MemoryFiles files;
  test::run_ranks(2, [&](Communicator& world) {
    std::vector<float> row(100'000, 1);
    const StateTensor tensor = row_of(world, row);
    BackgroundSave(world).start(std::span(&tensor, 1),
                                [&](Communicator& saving, std::span<const StateTensor> copies) {
                                  save_checkpoint("/run", saving, {.step = 7}, copies, {}, files);
                                });
  });
  EXPECT_EQ(latest_checkpoint("/run", files), "/run/step-7");
}

}  // namespace
}  // namespace trireme
