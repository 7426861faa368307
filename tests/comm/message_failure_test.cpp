#include <gmock/gmock.h>

#include <atomic>
#include <chrono>
#include <thread>

#include "tests/base/stopped_clock.h"
#include "tests/comm/in_process.h"
#include "tests/comm/message_of.h"
#include "tests/comm/ranks.h"
#include "trireme/base/error.h"
#include "trireme/comm/hierarchical/hierarchical.h"
#include "trireme/comm/message/group.h"

namespace trireme::test {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;
using testing::StartsWith;

/// Ranks over a network that fails on demand; on `hosts` hosts of consecutive ranks.
void run(Network& network, int ranks, int hosts, message::Options options,
         const RankFunction& body) {
  run_threads(ranks, [&](int rank) {
    body(*hierarchical(network.transport(rank), options,
                       static_cast<std::uint64_t>(rank * hosts / ranks)));
  });
}

class FailureOnHosts : public testing::TestWithParam<int> {};  // hosts of four ranks

TEST_P(FailureOnHosts, ATimeoutNamesTheSilentRankOnEveryRank) {
  Network network(4);
  std::atomic<int> done{0};
  run(network, 4, GetParam(), {.timeout = 300ms}, [&](Communicator& world) {
    world.barrier({"a.cpp", 5});
    if (world.rank() != 3) {
      std::vector<float> x(100'000);
      EXPECT_EQ(message_of<CommError>([&] {
                  world.all_reduce(buffer_of<float>(x), ReduceOp::kSum, {"b.cpp", 7}).wait();
                }),
                "rank 3 did not come to all_reduce(f32[100000], sum) at b.cpp:7 within 0.3 s; its "
                "last call was barrier() at a.cpp:5 (operation 1); its process is running");
      ++done;
    }
    while (done < 3) std::this_thread::sleep_for(1ms);
  });
}

TEST_P(FailureOnHosts, ALostRankIsNamedInEveryOperation) {
  const std::vector<std::function<Work(Communicator&, Buffer, Buffer)>> operations = {
      [](auto& c, Buffer x, Buffer) { return c.all_reduce(x); },
      [](auto& c, Buffer x, Buffer y) { return c.reduce_scatter(y, x); },
      [](auto& c, Buffer x, Buffer y) { return c.all_gather(x, y); },
      [](auto& c, Buffer x, Buffer) { return c.broadcast(x, 1); },
      [](auto& c, Buffer x, Buffer) { return c.reduce(x, 0); },
      [](auto& c, Buffer x, Buffer y) { return c.gather(x, y, 0); },
      [](auto& c, Buffer x, Buffer y) { return c.scatter(y, x, 0); },
      [](auto& c, Buffer, Buffer) { return c.barrier(), Work(); },
      [](auto& c, Buffer, Buffer) { return c.allocate(8), Work(); },
      [](auto& c, Buffer, Buffer) { return c.split(0), Work(); },
      [](auto& c, Buffer x, Buffer) { return c.recv(x, 2); },
  };
  for (std::size_t i = 0; i < operations.size(); ++i) {
    Network network(4);
    std::atomic<int> done{0};
    run(network, 4, GetParam(), {}, [&](Communicator& world) {
      std::vector<float> x(400'000);
      std::vector<float> y(100'000);
      world.barrier();
      if (world.rank() == 2) {
        std::this_thread::sleep_for(20ms);
        network.kill(2, "killed by signal 9");
      } else {
        EXPECT_EQ(message_of<CommError>([&] {
                    operations[i](world, buffer_of<float>(x), buffer_of<float>(y)).wait();
                  }),
                  "rank 2 is lost: killed by signal 9")
            << "operation " << i;
        EXPECT_EQ(message_of<CommError>([&] { world.barrier(); }),
                  "rank 2 is lost: killed by signal 9");
        ++done;
      }
      while (done < 3) std::this_thread::sleep_for(1ms);
    });
  }
}

TEST_P(FailureOnHosts, ARankKilledWhileDataMovesEndsTheOthers) {
  for (const auto when : {0ms, 3ms, 10ms, 30ms}) {
    Network network(4);
    std::atomic<int> done{0};
    run(network, 4, GetParam(), {}, [&](Communicator& world) {
      std::vector<float> x(3'000'000, 1);
      std::thread killer;
      if (world.rank() == 1) {
        killer = std::thread([&] {
          std::this_thread::sleep_for(when);
          network.kill(1, "killed by signal 9");
        });
      }
      const std::string error = message_of<CommError>([&] {
        for (int i = 0; i < 1000; ++i) world.all_reduce(buffer_of<float>(x), ReduceOp::kMax).wait();
      });
      if (world.rank() == 1) {
        killer.join();
      } else {
        EXPECT_EQ(error, "rank 1 is lost: killed by signal 9");
      }
      ++done;
      while (done < 4) std::this_thread::sleep_for(1ms);
    });
  }
}

TEST_P(FailureOnHosts, ARankThatLeftEndsTheCallsThatNeedIt) {
  Network network(4);
  run(network, 4, GetParam(), {}, [](Communicator& world) {
    world.barrier();
    if (world.rank() == 2) return;
    EXPECT_THAT(message_of<CommError>([&] { world.barrier(); }),
                StartsWith("rank 2 has left before barrier() at message_failure_test.cpp:"));
  });
}

TEST_P(FailureOnHosts, ARankThatLeftHasDeliveredWhatItSent) {
  for (int round = 0; round < 20; ++round) {
    Network network(4);
    run(network, 4, GetParam(), {}, [](Communicator& world) {
      int x = world.rank() + 10;
      world.broadcast({&x, 1, DType::kI32}, 2).wait();
      EXPECT_EQ(x, 12);
      std::vector<int> words(50'000, world.rank());
      world.broadcast(buffer_of<int>(words), 2).wait();
      EXPECT_EQ(words.back(), 2);
      std::vector<int> letter(50'000, world.rank());
      if (world.rank() == 2) world.send(buffer_of<int>(letter), 0).wait();
      if (world.rank() == 0) world.recv(buffer_of<int>(letter), 2).wait();
      EXPECT_EQ(letter.back(), world.rank() == 0 ? 2 : world.rank());
    });
  }
}

TEST_P(FailureOnHosts, AbortEndsPendingAndLaterCalls) {
  Network network(4);
  std::atomic<int> done{0};
  run(network, 4, GetParam(), {}, [&](Communicator& world) {
    if (world.rank() == 0) {
      std::thread elsewhere([&] {
        std::this_thread::sleep_for(20ms);
        world.abort(std::make_exception_ptr(CommError("enough")));
      });
      std::vector<float> x(100'000);
      EXPECT_EQ(message_of<CommError>([&] { world.all_reduce(buffer_of<float>(x)).wait(); }),
                "enough");
      EXPECT_EQ(message_of<CommError>([&] { world.barrier(); }), "enough");
      elsewhere.join();
    }
    ++done;
    while (done < 4) std::this_thread::sleep_for(1ms);
  });
}

INSTANTIATE_TEST_SUITE_P(Hosts, FailureOnHosts, testing::Values(2, 4),
                         [](const auto& info) { return "Hosts" + std::to_string(info.param); });

TEST(MessageFailure, TheErrorNamesARankOutOfReach) {
  Network network(2);
  StoppedClock clock;
  std::atomic<bool> done{false};
  run(network, 2, 2, {.timeout = 10s, .clock = &clock}, [&](Communicator& world) {
    world.barrier({"a.cpp", 5});
    if (world.rank() == 1) {
      network.silence(1);
      // Slowly: silence counts only while the rank that waits is running itself.
      while (!done) {
        clock.advance(50ms);
        std::this_thread::sleep_for(10ms);
      }
      return;
    }
    EXPECT_THAT(
        message_of<CommError>([&] {
          world.barrier({"b.cpp", 7});
        }),
        testing::ContainsRegex("rank 1 did not come to barrier\\(\\) at b.cpp:7 within 10 s; "
                               "its last call was barrier\\(\\) at a.cpp:5 \\(operation 1\\); "
                               "nothing has been heard of it for [0-9]+ s: stopped, or out of "
                               "reach"));
    done = true;
  });
}

TEST(MessageFailure, ACutLinkIsAnErrorOnBothSidesLongBeforeTheTimeout) {
  Network network(3);
  run(network, 3, 3, {.timeout = 1h, .heartbeat_timeout = 2500ms}, [&](Communicator& world) {
    world.barrier();
    if (world.rank() == 2) {
      for (int rank = 0; rank < 3; ++rank) network.silence(rank);
    }
    const std::string error = message_of<CommError>([&] {
      if (world.rank() == 1) std::this_thread::sleep_for(300ms);
      float x = 1;
      world.recv({&x, 1, DType::kF32}, (world.rank() + 1) % 3).wait();
    });
    EXPECT_THAT(error, testing::ContainsRegex("rank [0-2] is lost: nothing has been heard of it "
                                              "for [0-9.]+ s: its host is out of reach or its "
                                              "process is stopped .heartbeat timeout 2.5 s."));
  });
}

TEST(MessageFailure, ARankThatComputesIsNotSilent) {
  Network network(2);
  run(network, 2, 2, {.timeout = 1h, .heartbeat_timeout = 2500ms}, [&](Communicator& world) {
    // Longer than the heartbeat timeout, without a call.
    if (world.rank() == 1) std::this_thread::sleep_for(4s);
    world.barrier();
  });
}

TEST(MessageFailure, ATimeoutIsMeasuredByTheClockThatIsPassedIn) {
  Network network(3);
  StoppedClock clock;
  std::atomic<int> done{0};
  run(network, 3, 3, {.timeout = 30min, .clock = &clock}, [&](Communicator& world) {
    if (world.rank() == 2) {
      std::this_thread::sleep_for(200ms);
      EXPECT_EQ(done, 0);
      clock.advance(30min);
      while (done < 2) {
        std::this_thread::sleep_for(60ms);
        clock.advance(250ms);
      }
      return;
    }
    EXPECT_THAT(message_of<CommError>([&] {
                  world.barrier({"b.cpp", 7});
                }),
                testing::AllOf(testing::StartsWith(
                                   "rank 2 did not come to barrier() at b.cpp:7 within 1800 s; "),
                               testing::EndsWith("; its process is running")));
    ++done;
  });
}

TEST(MessageFailure, OfALargeMessageNamesTheRankThatIsLost) {
  Network network(3);
  std::atomic<int> done{0};
  run(network, 3, 3, {}, [&](Communicator& world) {
    world.barrier();
    if (world.rank() == 2) {
      network.kill(2, "killed by signal 9");
    } else {
      const auto is_known = [&] {
        return message_of<CommError>([&] { world.check(); }) != "nothing was thrown";
      };
      while (!is_known()) std::this_thread::sleep_for(1ms);
      std::vector<int> x(100'000);
      // Until the loss has aborted the transfers, messages between other ranks may succeed.
      EXPECT_EQ(message_of<CommError>([&] {
                  for (;; std::this_thread::sleep_for(1ms)) {
                    (world.rank() == 0 ? world.send(buffer_of<int>(x), 1)
                                       : world.recv(buffer_of<int>(x), 0))
                        .wait();
                  }
                }),
                "rank 2 is lost: killed by signal 9");
      ++done;
    }
    while (done < 2) std::this_thread::sleep_for(1ms);
  });
}

TEST(MessageFailure, OfASplitDoesNotAffectOtherGroups) {
  Network network(4);
  std::atomic<int> done{0};
  run(network, 4, 4, {}, [&](Communicator& world) {
    const auto half = world.split(world.rank() / 2);
    half->barrier();
    if (world.rank() == 3) network.kill(3, "killed by signal 9");
    if (world.rank() == 2) {
      EXPECT_EQ(message_of<CommError>([&] { half->barrier(); }),
                "rank 1 (rank 3 of the world) is lost: killed by signal 9");
    }
    std::this_thread::sleep_for(20ms);
    if (world.rank() < 2) {
      std::vector<int> x(100'000, 1);
      half->all_reduce(buffer_of<int>(x)).wait();
      EXPECT_EQ(x.back(), 2);
    }
    ++done;
    while (done < 4) std::this_thread::sleep_for(1ms);
  });
}

}  // namespace
}  // namespace trireme::test
