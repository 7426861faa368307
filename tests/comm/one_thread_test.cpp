// A communicator is used by one thread of a rank at a time, and waits no longer than it was told
// to.
#include <gmock/gmock.h>

#include <atomic>
#include <chrono>
#include <thread>

#include "tests/comm/message_of.h"
#include "tests/comm/ranks.h"
#include "trireme/base/error.h"
#include "trireme/comm/shm/world.h"

namespace trireme::test {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;

// Calls `call` until it throws a UsageError, and returns its text.
std::string refusal_of(const std::function<void()>& call) {
  const auto deadline = std::chrono::steady_clock::now() + 20s;
  while (std::chrono::steady_clock::now() < deadline) {
    try {
      call();
    } catch (const UsageError& error) {
      return error.what();
    }
    std::this_thread::sleep_for(10ms);
  }
  return "no error";
}

// The second thread calls while the first waits inside `waits` for rank 1.
void expect_refused(const std::function<void(Communicator&)>& waits) {
  std::atomic<bool> is_refused = false;
  run_ranks(2, [&](Communicator& world) {
    if (world.rank() == 1) {
      while (!is_refused.load()) std::this_thread::sleep_for(1ms);
      waits(world);
      return;
    }
    std::thread second([&] {
      std::this_thread::sleep_for(200ms);
      EXPECT_EQ(refusal_of([&] { world.progress(); }),
                "progress: another thread is inside a call of this communicator (rank 0 of 2); use "
                "it from one thread at a time, and give each thread one of its own by split()");
      float x = 1;
      EXPECT_THAT(refusal_of([&] {
                    world.all_reduce({&x, 1, DType::kF32}).wait();
                  }),
                  HasSubstr("all_reduce: another thread"));
      EXPECT_THAT(refusal_of([&] { world.allocate(64); }), HasSubstr("allocate: another thread"));
      EXPECT_THAT(refusal_of([&] { world.split(0); }), HasSubstr("split: another thread"));
      EXPECT_THAT(refusal_of([&] { world.check(); }), HasSubstr("check: another thread"));
      is_refused = true;
    });
    waits(world);  // which the second thread has not disturbed
    second.join();
  });
}

TEST(OneThread, ASecondIsRefusedWhileTheFirstWaitsForASum) {
  expect_refused([](Communicator& world) {
    double x = world.rank() + 1;
    world.all_reduce({&x, 1, DType::kF64}).wait();
    EXPECT_EQ(x, 3);
  });
}

TEST(OneThread, ASecondIsRefusedWhileTheFirstWaitsForAMessage) {
  expect_refused([](Communicator& world) {
    double x = 7;
    if (world.rank() == 1) return world.send({&x, 1, DType::kF64}, 0).wait();
    x = 0;
    world.recv({&x, 1, DType::kF64}, 1).wait();
    EXPECT_EQ(x, 7);
  });
}

TEST(OneThread, ASecondIsRefusedInsideASplit) {
  expect_refused([](Communicator& world) { EXPECT_EQ(world.split(0)->size(), 2); });
}

TEST(OneThread, ACommunicatorMayBeHandedOver) {
  run_ranks(3, [](Communicator& world) {
    for (int i = 0; i < 20; ++i) {
      std::thread next([&] {
        double x = 1;
        world.all_reduce({&x, 1, DType::kF64}).wait();
        EXPECT_EQ(x, 3);
      });
      next.join();
    }
    double x = 1;
    world.all_reduce({&x, 1, DType::kF64}).wait();
    EXPECT_EQ(x, 3);
  });
}

TEST(OneThread, TwoThreadsMayUseTwoPartsOfASplit) {
  run_ranks(2, [](Communicator& world) {
    const auto part = world.split(0);
    std::thread other([&] {
      for (int i = 0; i < 200; ++i) part->barrier();
    });
    for (int i = 0; i < 200; ++i) world.barrier();
    other.join();
  });
}

TEST(Timeout, OfARankTakesThePlaceOfTheWorlds) {
  shm::World world = shm::World::create(2, {.timeout = 1h});
  const auto rank = world.join(0, 150ms);
  const auto silent = world.join(1);
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_THAT(message_of<CommError>([&] { rank->barrier(); }),
              testing::ContainsRegex("rank 1 did not come to barrier.* within 0.15 s"));
  EXPECT_LT(std::chrono::steady_clock::now() - begin, 60s);
}

TEST(Timeout, OfARankHoldsInTheCommunicatorsThatAreSplitFromIt) {
  shm::World world = shm::World::create(2, {.timeout = 1h});
  run_threads(2, [&](int rank) {
    const auto comm = world.join(rank, rank == 0 ? 200ms : 1h);
    const auto part = comm->split(0);
    if (rank == 0) {
      float x = 0;
      EXPECT_THAT(message_of<CommError>([&] {
                    part->recv({&x, 1, DType::kF32}, 1).wait();
                  }),
                  HasSubstr("within 0.2 s"));
    }
    // Rank 1 stays until rank 0 has given up.
    message_of<CommError>([&] {
      float x = 0;
      part->recv({&x, 1, DType::kF32}, 1 - rank, 5).wait();
    });
  });
}

TEST(Timeout, OfARankMustBePositive) {
  shm::World world = shm::World::create(1);
  EXPECT_THAT(message_of<UsageError>([&] { world.join(0, 0ms); }),
              HasSubstr("must be positive, got 0 ms"));
}

TEST(Timeout, OfABarrierIsItsOwn) {
  const auto barrier_alone = [](Communicator& world) {
    if (world.rank() > 0) {
      // Until rank 0 gives up: this communicator then ends here as well.
      message_of<CommError>([&] {
        float x = 0;
        world.recv({&x, 1, DType::kF32}, 0).wait();
      });
      return;
    }
    EXPECT_THAT(message_of<UsageError>([&] { world.barrier(0ms); }), HasSubstr("got 0 ms"));
    EXPECT_THAT(message_of<CommError>([&] { world.barrier(300ms); }),
                testing::ContainsRegex("did not come to barrier\\(\\).* within 0.3 s"));
  };
  run_ranks(2, barrier_alone, {.timeout = 1h});
  run_ranks_over_messages(2, barrier_alone, {.timeout = 1h});
  run_ranks_on_hosts(3, [](int rank) { return rank / 2; }, barrier_alone, {.timeout = 1h});
}

TEST(Timeout, OfABarrierThatIsLongerThanTheOthersHolds) {
  const auto late = [](Communicator& world) {
    if (world.rank() == 1) std::this_thread::sleep_for(600ms);
    world.barrier(1min);
  };
  run_ranks(2, late, {.timeout = 200ms});
  run_ranks_over_messages(2, late, {.timeout = 200ms});
}

}  // namespace
}  // namespace trireme::test
