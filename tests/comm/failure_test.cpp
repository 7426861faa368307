#include <gmock/gmock.h>
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <filesystem>
#include <functional>
#include <thread>

#include "tests/comm/message_of.h"
#include "tests/comm/ranks.h"
#include "trireme/base/error.h"

namespace trireme::test {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;
using testing::StartsWith;

std::vector<float>& memory() {
  thread_local std::vector<float> x(12 * 4000);
  return x;
}

Buffer floats(std::int64_t count) {
  return {memory().data(), count, DType::kF32};
}

TEST(Mismatch, NamesBothRanksAndTheirCalls) {
  run_ranks(3, [](Communicator& world) {
    const std::string verdict = message_of<UsageError>([&] {
      (world.rank() == 2 ? world.broadcast(floats(10), 1, {"b.cpp", 7})
                         : world.all_reduce(floats(1024), ReduceOp::kSum, {"src/a.cpp", 5}))
          .wait();
    });
    EXPECT_EQ(
        verdict,
        "all_reduce mismatch: rank 0 called all_reduce(f32[1024], sum) at a.cpp:5, rank 2 called "
        "broadcast(f32[10], root 1) at b.cpp:7: all ranks must make the same calls in the same "
        "order "
        "(operation 1)");
  });
}

TEST(Mismatch, NamesTheDivisor) {
  run_ranks(2, [](Communicator& world) {
    const ReductionTree tree(6, 2);
    const auto rows = std::ssize(tree.nodes_of(world.rank()));
    EXPECT_THAT(
        message_of<UsageError>(
            [&] { world.all_reduce(floats(rows * 10), tree, world.rank() == 0 ? 6 : 2.5).wait(); }),
        testing::AllOf(HasSubstr("rank 0 called all_reduce(f32[10], sum / 6, 6 virtual"),
                       HasSubstr("rank 1 called all_reduce(f32[10], sum / 2.5, 6 virtual")));
  });
}

TEST(Mismatch, OfUnevenCountsNamesTheCalls) {
  run_ranks(3, [](Communicator& world) {
    std::vector<std::int64_t> sent{1, 2, 3};
    std::vector<std::int64_t> received(3, world.rank() + 1);
    // Rank 2 expects one too many from rank 1.
    if (world.rank() == 2) ++received[1];
    const std::int64_t expected = received[0] + received[1] + received[2];
    EXPECT_THAT(message_of<UsageError>([&] {
                  world
                      .all_to_all(floats(expected), received, {memory().data() + 100, 6}, sent,
                                  {"a.cpp", 5})
                      .wait();
                }),
                HasSubstr("rank 2 called all_to_all(f32[6] in pieces of different sizes) at "
                          "a.cpp:5: every rank must expect as many elements from each rank as that "
                          "rank sends to it (operation 1)"));
  });
  run_ranks(2, [](Communicator& world) {
    const std::vector<std::int64_t> counts{3 + world.rank(), 3};
    EXPECT_THAT(message_of<UsageError>([&] {
                  world
                      .all_gather(floats(6 + world.rank()),
                                  {memory().data() + 100, counts[world.rank()]}, counts)
                      .wait();
                }),
                testing::AllOf(HasSubstr("all_gather mismatch: rank 0 called all_gather(f32[3] at "
                                         "most, pieces "),
                               HasSubstr("rank 1 called all_gather(f32[4] at most, pieces ")));
  });
}

TEST(Mismatch, OfTheVirtualWorkersOfEachRankIsFound) {
  run_ranks(2, [](Communicator& world) {
    const std::vector<Range> own{{0, 2 + world.rank()}, {2 + world.rank(), 5}};
    const ReductionTree tree(own);
    const auto rows = std::ssize(tree.nodes_of(world.rank()));
    EXPECT_THAT(message_of<UsageError>([&] { world.all_reduce(floats(rows * 10), tree).wait(); }),
                HasSubstr("all_reduce mismatch"));
  });
}

TEST(Mismatch, InTheMiddleOfManyOutstandingOperationsEndsThemAll) {
  run_ranks(2, [](Communicator& world) {
    std::vector<float> x(100'000);
    std::vector<Work> works;
    for (int i = 0; i < 30; ++i) {
      const std::int64_t count = i == 20 ? 1000 + world.rank() : 50'000;
      try {
        works.push_back(world.all_reduce({x.data(), count, DType::kF32}));
      } catch (const UsageError&) {
        break;
      }
    }
    EXPECT_THAT(message_of<UsageError>([&] {
                  for (Work& work : works) work.wait();
                  world.barrier();
                }),
                HasSubstr("rank 1 called all_reduce(f32[1001], sum)"));
  });
}

TEST(Misuse, IsRefusedBeforeAnythingIsPublished) {
  run_ranks(2, [](Communicator& world) {
    const auto refused = [](const std::function<void()>& call) {
      return message_of<UsageError>(call);
    };
    const ReductionTree tree(4, 4);
    std::vector<int> whole(8);
    EXPECT_THAT(refused([&] {
                  world.all_reduce({nullptr, 5, DType::kF32});
                }),
                HasSubstr("all_reduce: x must point to 5 elements, got null"));
    EXPECT_THAT(refused([&] { world.all_reduce(floats(-1)); }),
                HasSubstr("x must hold 0 or more elements, got -1"));
    EXPECT_THAT(refused([&] { world.all_reduce(floats(4), tree); }),
                HasSubstr("the tree must be over 2 ranks, got 4"));
    const ReductionTree own(4, 2);
    EXPECT_THAT(refused([&] { world.all_reduce(floats(4), own, 0); }),
                HasSubstr("all_reduce: the divisor must be a finite number greater than 0, got 0"));
    EXPECT_THAT(refused([&] { world.all_reduce(buffer_of<int>(whole), own, 4); }),
                HasSubstr("all_reduce: a sum of i32 cannot be divided by 4"));
    EXPECT_THAT(refused([&] { world.all_reduce(buffer_of<int>(whole), ReduceOp::kMean); }),
                HasSubstr("a mean must be of floating point, got i32"));
    EXPECT_THAT(refused([&] { world.broadcast(floats(4), 2); }),
                HasSubstr("root must be a rank in [0, 2), got 2"));
    EXPECT_THAT(refused([&] { world.send(floats(4), -1); }), HasSubstr("got -1"));
    EXPECT_THAT(refused([&] {
                  world.all_gather(floats(7), {memory().data() + 100, 4});
                }),
                HasSubstr("all_gather: out must hold 8 elements, got 7"));
    EXPECT_THAT(refused([&] { world.all_to_all(floats(8), floats(8)); }),
                HasSubstr("must not overlap"));
    const std::vector<std::int64_t> counts{5, -1};
    EXPECT_THAT(refused([&] { world.all_gather(floats(4), floats(5), counts); }),
                HasSubstr("all_gather: counts[1] must be 0 or more, got -1"));
    const std::vector<std::int64_t> one{5};
    EXPECT_THAT(refused([&] { world.reduce_scatter(floats(5), floats(5), one); }),
                HasSubstr("counts must have one count for each of 2 ranks, got 1"));
    EXPECT_THAT(refused([&] { world.gather(floats(8), buffer_of<int>(whole), world.rank()); }),
                HasSubstr("must have one type, got f32 and i32"));
    // Nothing was published: the communicator goes on.
    world.barrier();
  });
}

TEST(Timeout, NamesTheSilentPeerAndItsLastCall) {
  std::atomic<int> done{0};
  run_ranks(
      4,
      [&](Communicator& world) {
        world.barrier({"a.cpp", 5});
        if (world.rank() != 3) {
          std::vector<float> x(1024);
          EXPECT_EQ(
              message_of<CommError>([&] {
                world.all_reduce(buffer_of<float>(x), ReduceOp::kSum, {"b.cpp", 7}).wait();
              }),
              "rank 3 did not come to all_reduce(f32[1024], sum) at b.cpp:7 within 0.2 s; its "
              "last call was barrier() at a.cpp:5 (operation 1); its process is running");
          ++done;
        }
        while (done < 3) std::this_thread::sleep_for(1ms);
      },
      {.timeout = 200ms});
}

TEST(Timeout, NamesThePeerThatSendsNothing) {
  std::atomic<bool> done{false};
  run_ranks(
      2,
      [&](Communicator& world) {
        if (world.rank() == 0) {
          EXPECT_EQ(
              message_of<CommError>([&] {
                world.recv(floats(3), 1, 9, {"a.cpp", 5}).wait();
              }),
              "rank 1 did not come to recv(f32[3], from 1, tag 9) at a.cpp:5 within 0.1 s; it "
              "has made no call; its process is running");
          done = true;
        }
        while (!done) std::this_thread::sleep_for(1ms);
      },
      {.timeout = 100ms});
}

TEST(SlowRank, IsNotADeadOne) {
  run_ranks(3, [](Communicator& world) {
    if (world.rank() == 1) std::this_thread::sleep_for(400ms);
    std::vector<float> x(100'000, 1);
    world.all_reduce(buffer_of<float>(x)).wait();
    EXPECT_EQ(x.front(), 3);
  });
}

TEST(RankThatLeft, EndsTheCallsThatNeedIt) {
  run_ranks(3, [](Communicator& world) {
    world.barrier();
    if (world.rank() == 2) return;
    try {
      world.barrier();
      FAIL() << "nothing was thrown";
    } catch (const CommError& error) {
      EXPECT_THAT(error.what(),
                  StartsWith("rank 2 has left before barrier() at failure_test.cpp:"));
      EXPECT_EQ(error.lost_rank(), 2);
    }
  });
}

TEST(RankThatLeft, LeavesBehindWhatItHasPublished) {
  for (int round = 0; round < 100; ++round) {
    run_ranks(3, [](Communicator& world) {
      int x = world.rank() + 10;
      world.broadcast({&x, 1, DType::kI32}, 2).wait();
      EXPECT_EQ(x, 12);
      std::vector<int> words(1000, world.rank());
      if (world.rank() == 2) {
        world.send(buffer_of<int>(words), 0).wait();
      } else if (world.rank() == 0) {
        world.recv(buffer_of<int>(words), 2).wait();
        EXPECT_EQ(words.back(), 2);
      }
    });
  }
}

TEST(RankThatLeft, DoesNotDisturbThoseWhoDoNotNeedIt) {
  run_ranks(3, [](Communicator& world) {
    if (world.rank() == 2) return;
    std::this_thread::sleep_for(20ms);
    std::vector<int> x(100'000, world.rank());
    if (world.rank() == 0) world.send(buffer_of<int>(x), 1).wait();
    if (world.rank() == 1) world.recv(buffer_of<int>(x), 0).wait();
    EXPECT_EQ(x.back(), 0);
  });
}

TEST(RankThatThrows, IsTheRootCauseThatIsReported) {
  EXPECT_EQ(message_of<DataError>([] {
              run_ranks(4, [](Communicator& world) {
                world.barrier();
                if (world.rank() == 2) throw DataError("row 17 is short");
                for (;;) world.barrier();
              });
            }),
            "row 17 is short");
}

TEST(LostRank, IsNamedByEveryCallThatWaits) {
  shm::World world = shm::World::create(3);
  std::atomic<int> waiting{0};
  std::vector<std::thread> threads;
  for (int rank = 0; rank < 2; ++rank) {
    threads.emplace_back([&, rank] {
      const auto comm = world.join(rank);
      ++waiting;
      const std::string message = message_of<CommError>([&] { comm->barrier(); });
      EXPECT_EQ(message, "rank 2 is lost: killed by signal 9");
    });
  }
  while (waiting < 2) std::this_thread::sleep_for(1ms);
  std::this_thread::sleep_for(20ms);
  world.mark_lost(2, "killed by signal 9");
  for (std::thread& thread : threads) thread.join();
}

TEST(LostRank, KilledInTheMiddleOfAnOperationEndsTheOthersAtOnce) {
  const auto begin = std::chrono::steady_clock::now();
  const auto ends = run_rank_processes(3, [](Communicator& world) {
    std::vector<float> x(300'000, 1);
    for (int i = 0;; ++i) {
      if (world.rank() == 1 && i == 50) kill(getpid(), SIGKILL);
      world.all_reduce(buffer_of<float>(x), ReduceOp::kMax).wait();
    }
  });
  EXPECT_LT(std::chrono::steady_clock::now() - begin, 20s);
  for (const int survivor : {0, 2}) {
    EXPECT_EQ(ends[survivor].error, "rank 1 is lost: killed by signal 9");
  }
}

TEST(LostRank, IsNamedInASplitByBothItsRanks) {
  const auto ends = run_rank_processes(4, [](Communicator& world) {
    const auto half = world.split(world.rank() / 2);
    half->barrier();
    if (world.rank() == 3) kill(getpid(), SIGKILL);
    if (world.rank() == 2) half->barrier();
  });
  EXPECT_EQ(ends[0].error, "");
  EXPECT_EQ(ends[2].error, "rank 1 (rank 3 of the world) is lost: killed by signal 9");
}

TEST(World, LeavesNothingInTheFileSystem) {
  const auto names = [] {
    std::vector<std::string> found;
    for (const auto& entry : std::filesystem::directory_iterator("/dev/shm")) {
      found.push_back(entry.path().filename());
    }
    std::sort(found.begin(), found.end());
    return found;
  };
  const auto before = names();
  run_rank_processes(2, [&](Communicator& world) {
    const Memory memory = world.allocate(1 << 20);
    EXPECT_EQ(names(), before);
    kill(getpid(), SIGKILL);
  });
  EXPECT_EQ(names(), before);
}

TEST(World, IsJoinedOnceByEachOfItsRanks) {
  shm::World world = shm::World::create(2);
  const auto first = world.join(0);
  EXPECT_THAT(message_of<UsageError>([&] { world.join(0); }),
              HasSubstr("rank 0 has joined already"));
  EXPECT_THAT(message_of<UsageError>([&] { world.join(2); }), HasSubstr("in [0, 2), got 2"));
  EXPECT_THROW(shm::World::create(0), UsageError);
  EXPECT_THROW(shm::World::create(257), UsageError);
}

TEST(World, OpensAnInheritedDescriptorAndNothingElse) {
  const shm::World world = shm::World::create(3);
  shm::World opened = shm::World::open(dup(world.fd()));
  EXPECT_EQ(opened.size(), 3);
  EXPECT_EQ(opened.join(1)->rank(), 1);
  EXPECT_THAT(message_of<UsageError>([] { shm::World::open(987); }), HasSubstr("descriptor 987"));
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  EXPECT_THAT(message_of<DataError>([&] { shm::World::open(ends[0]); }),
              HasSubstr("it is not a sealed memfd"));
  close(ends[0]);
  close(ends[1]);
}

TEST(World, RefusesMoreMemoryThanItHasOnEveryRank) {
  run_ranks(2,
            [](Communicator& world) {
              const std::string refusal = message_of<UsageError>(
                  [&] { world.allocate(world.rank() == 1 ? std::size_t{1} << 40 : 100); });
              EXPECT_THAT(refusal, HasSubstr("allocate: rank 1 wanted 1099511627776 bytes"));
              EXPECT_EQ(world.allocate(100).bytes(), 100U);
            },
            {.bytes = std::size_t{64} << 20});
}

}  // namespace
}  // namespace trireme::test
