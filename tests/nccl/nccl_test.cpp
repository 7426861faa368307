// What the suites of all communicators do not ask: streams, devices, and NCCL's own failures.
#include "trireme/comm/nccl/nccl.h"

#include <gmock/gmock.h>

#include <atomic>
#include <chrono>
#include <cmath>
#include <thread>
#include <vector>

#include "tests/comm/in_process.h"
#include "tests/comm/message_of.h"
#include "tests/comm/ranks.h"
#include "tests/nccl/fake_cuda.h"
#include "tests/nccl/fake_nccl.h"
#include "trireme/base/error.h"
#include "trireme/base/random.h"
#include "trireme/comm/nccl/cuda.h"
#include "trireme/comm/self/self.h"

namespace trireme::test {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;
using Clock = std::chrono::steady_clock;

/// Numbers on this thread's device.
class DeviceFloats {
 public:
  explicit DeviceFloats(const std::vector<float>& values)
      : memory_(values.size() * sizeof(float)), count_(std::ssize(values)) {
    nccl::copy(buffer(), host(values));
  }

  Buffer buffer() const { return {memory_.data(), count_, DType::kF32, Device::kCuda}; }
  std::vector<float> values() const {
    std::vector<float> values(static_cast<std::size_t>(count_));
    nccl::copy(host(values), buffer());
    return values;
  }

 private:
  static Buffer host(const std::vector<float>& values) {
    return {const_cast<float*>(values.data()), std::ssize(values), DType::kF32};
  }

  cuda::DeviceMemory memory_;
  std::int64_t count_;
};

/// This thread's device is busy with work of the program's own.
void hold_up_while(const std::atomic<bool>& stuck) {
  fake::queue(nullptr, [&] {
    while (stuck) std::this_thread::sleep_for(1ms);
  });
}

class Nccl : public testing::Test {
 protected:
  void TearDown() override {
    fake::set_faults({});
    fake::set_device_count(8);
    for (const std::string& offence : fake::take_offences()) ADD_FAILURE() << offence;
  }

  /// Ranks with a device each.
  static void run(int ranks, const RankFunction& body, const nccl::Options& options = {}) {
    run_ranks(ranks, [&](Communicator& world) {
      nccl::use_device(world.rank());
      nccl::carry_devices(world, options);
      body(world);
    });
  }
};

TEST_F(Nccl, SaysWhichItIs) {
  EXPECT_THAT(nccl::library(), testing::StartsWith("NCCL 2."));
}

TEST_F(Nccl, CarriesWhatLiesOnDevicesBesideWhatDoesNot) {
  run(3, [](Communicator& world) {
    const DeviceFloats there({1, 2, static_cast<float>(world.rank())});
    float here = 1;
    Work first = world.all_reduce(there.buffer());
    Work second = world.all_reduce({&here, 1, DType::kF32});
    second.wait();
    first.wait();
    EXPECT_EQ(here, 3);
    EXPECT_THAT(there.values(), testing::ElementsAre(3, 6, 3));
  });
}

TEST_F(Nccl, BeginsOnceTheCallersStreamHasComeToTheCall) {
  run(2, [](Communicator& world) {
    const DeviceFloats x({0});
    auto* value = static_cast<float*>(x.buffer().data);
    std::atomic<bool> may_write = false;
    // A kernel that takes its time, as a backward pass does.
    fake::queue(nullptr, [&] {
      while (!may_write) std::this_thread::sleep_for(1ms);
      *value = 5;
    });
    Work work = world.all_reduce(x.buffer());
    for (int i = 0; i < 20; ++i) {
      EXPECT_FALSE(work.test());
      std::this_thread::sleep_for(1ms);
    }
    may_write = true;
    work.wait();
    EXPECT_THAT(x.values(), testing::ElementsAre(10));
  });
}

TEST_F(Nccl, TakesTheStreamThatItIsTold) {
  run_ranks(2, [](Communicator& world) {
    nccl::use_device(world.rank());
    const cuda::Stream side;
    std::atomic<int> asked = 0;
    nccl::carry_devices(world, {.stream = [&](int device) -> void* {
                          EXPECT_EQ(device, world.rank());
                          ++asked;
                          return side.get();
                        }});
    const DeviceFloats x({0});
    auto* value = static_cast<float*>(x.buffer().data);
    fake::queue(side.get(), [value] {
      std::this_thread::sleep_for(20ms);
      *value = 5;
    });
    world.all_reduce(x.buffer()).wait();
    EXPECT_THAT(x.values(), testing::ElementsAre(10));
    EXPECT_GT(asked, 0);
  });
}

TEST_F(Nccl, AStreamWaitsForACollectiveWhileTheHostGoesOn) {
  run(2, [](Communicator& world) {
    const DeviceFloats x({0});
    auto* value = static_cast<float*>(x.buffer().data);
    const cuda::Stream side;
    std::atomic<bool> stuck = true;
    std::atomic<float> seen = -1;
    hold_up_while(stuck);
    fake::queue(nullptr, [=] { *value = 1; });
    Work work = world.all_reduce(x.buffer());
    work.wait(StreamRef{side.get()});
    fake::queue(side.get(), [&seen, value] { seen = *value; });
    // The collective has not begun: the device is busy.
    std::this_thread::sleep_for(20ms);
    EXPECT_EQ(seen, -1);
    EXPECT_TRUE(work.test());
    stuck = false;
    while (seen < 0) std::this_thread::sleep_for(1ms);
    EXPECT_EQ(seen, 2);
    // One more, which nobody waits for here: it ends before the communicator does.
    world.all_reduce(x.buffer()).wait(StreamRef{side.get()});
    fake::queue(side.get(), [&seen, value] { seen = *value; });
    while (seen < 4) std::this_thread::sleep_for(1ms);
  });
}

TEST_F(Nccl, AStreamWaitOnDataOfTheProcessIsAWait) {
  run(2, [](Communicator& world) {
    float x = 1;
    world.all_reduce({&x, 1, DType::kF32}).wait(StreamRef{});
    EXPECT_EQ(x, 2);
  });
}

TEST_F(Nccl, NeedsNobodyToWaitForTheDataToMove) {
  run(2, [](Communicator& world) {
    const DeviceFloats x({1});
    world.all_reduce(x.buffer()).wait();
    Work work = world.all_reduce(x.buffer());
    world.barrier();
    world.progress();  // all have called it: it is queued
    std::this_thread::sleep_for(50ms);
    EXPECT_TRUE(work.test());
  });
}

TEST_F(Nccl, SumsInAnOrderOfItsOwnIfItMay) {
  // Of any magnitude, so that every order of summation gives other bits.
  const auto values_of = [](int rank) {
    std::vector<float> values(1000);
    const CounterRandom random(3, static_cast<std::uint64_t>(rank));
    for (std::size_t i = 0; i < values.size(); ++i) {
      values[i] = static_cast<float>(random.normal(i) * std::exp2(i % 9));
    }
    return values;
  };
  std::vector<float> by_tree;
  std::vector<float> natively;
  for (const bool reproducible : {true, false}) {
    run(3,
        [&](Communicator& world) {
          const DeviceFloats x(values_of(world.rank()));
          world.all_reduce(x.buffer()).wait();
          const DeviceFloats mean({6, 9, 12});
          const DeviceFloats piece({0});
          world.reduce_scatter(piece.buffer(), mean.buffer(), ReduceOp::kMean).wait();
          EXPECT_THAT(piece.values(), testing::ElementsAre(6.f + 3.f * world.rank()));
          const DeviceFloats most({static_cast<float>(world.rank())});
          world.reduce(most.buffer(), 1, ReduceOp::kMax).wait();
          if (world.rank() == 1) {
            EXPECT_THAT(most.values(), testing::ElementsAre(2));
          }
          // Virtual workers are summed in their one order all the same.
          const ReductionTree tree(6, 3);
          const DeviceFloats rows(values_of(world.rank()));
          const auto nodes = static_cast<std::int64_t>(tree.nodes_of(world.rank()).size());
          world.all_reduce(rows.buffer().slice(0, 100 * nodes), tree).wait();
          if (world.rank() == 0) (reproducible ? by_tree : natively) = x.values();
        },
        {.reproducible = reproducible});
  }
  EXPECT_NE(by_tree, natively);
  for (std::size_t i = 0; i < by_tree.size(); ++i) {
    EXPECT_NEAR(by_tree[i], natively[i], 1e-4 * (1 + std::abs(by_tree[i]))) << i;
  }
}

TEST_F(Nccl, SumsMoreThanItsScratchHoldsInPieces) {
  constexpr std::int64_t kCount = 20'000'003;  // 64 MiB hold the terms of a part of a slice
  run(2, [](Communicator& world) {
    std::vector<float> values(kCount);
    for (std::int64_t i = 0; i < kCount; ++i) values[i] = static_cast<float>(i % 1000);
    const DeviceFloats x(values);
    world.all_reduce(x.buffer()).wait();
    const std::vector<float> sums = x.values();
    for (std::int64_t i = 0; i < kCount; ++i) ASSERT_EQ(sums[i], 2.f * values[i]) << i;
  });
}

TEST_F(Nccl, GivesBackAllThatItTook) {
  const std::size_t before = fake::bytes_in_use();
  run(2, [](Communicator& world) {
    const DeviceFloats x(std::vector<float>(1000, 1));
    for (int i = 0; i < 5; ++i) world.all_reduce(x.buffer()).wait();
    const auto part = world.split(world.rank());
    part->all_reduce(x.buffer()).wait();
    const Memory memory = world.allocate(100, Device::kCuda);
    EXPECT_EQ(memory.peer(world.rank()), memory.data());
    EXPECT_EQ(memory.peer(1 - world.rank()), nullptr);
  });
  EXPECT_EQ(fake::open_communicators(), 0);
  EXPECT_EQ(fake::bytes_in_use(), before);
}

TEST_F(Nccl, AWorldOfOneNeedsADeviceOnly) {
  const auto world = self_communicator();
  nccl::carry_devices(*world);
  const DeviceFloats x({1, 2});
  const DeviceFloats y({0, 0});
  world->all_reduce(x.buffer()).wait();
  world->all_gather(y.buffer(), x.buffer()).wait();
  Work came = world->recv(x.buffer(), 0);
  world->send(y.buffer().slice(0, 2), 0).wait();
  came.wait();
  EXPECT_THAT(x.values(), testing::ElementsAre(1, 2));
  EXPECT_THAT(y.values(), testing::ElementsAre(1, 2));
}

// --- messages

TEST_F(Nccl, AMessageGoesFromDeviceToDeviceOnALineOfItsDirection) {
  run(3, [](Communicator& world) {
    const int to = (world.rank() + 1) % 3;
    const int from = (world.rank() + 2) % 3;
    const DeviceFloats out({static_cast<float>(world.rank()), 7});
    const DeviceFloats in({0, 0});
    for (int i = 0; i < 3; ++i) {
      Work sent = world.send(out.buffer(), to, 5);
      world.recv(in.buffer(), from, 5).wait();
      sent.wait();
      EXPECT_THAT(in.values(), testing::ElementsAre(from, 7));
    }
    EXPECT_EQ(world.traffic() - Traffic{}, (Traffic{24, 24}));
    world.barrier();
    EXPECT_EQ(fake::open_communicators(), 6);
    world.barrier();
  });
}

TEST_F(Nccl, TwoRanksMaySendToEachOtherAtOnce) {
  run(2, [](Communicator& world) {
    const int other = 1 - world.rank();
    for (int i = 0; i < 20; ++i) {
      const DeviceFloats out(std::vector<float>(5000, static_cast<float>(10 * i + world.rank())));
      const DeviceFloats in(std::vector<float>(5000));
      // In this order on both, or in opposite ones.
      std::vector<Work> works(2);
      const int first = i % 2 == 0 ? 0 : world.rank();
      for (const int k : {first, 1 - first}) {
        works[k] = k == 0 ? world.send(out.buffer(), other) : world.recv(in.buffer(), other);
      }
      works[0].wait();
      works[1].wait();
      EXPECT_EQ(in.values(), std::vector<float>(5000, static_cast<float>(10 * i + other)));
    }
  });
}

TEST_F(Nccl, MessagesArriveInTheOrderOfTheRecvsWhateverThatOfTheSends) {
  for (const int ranks : {2, 3, 4}) {
    run(ranks, [](Communicator& world) {
      constexpr int kTags = 12;
      std::vector<std::unique_ptr<DeviceFloats>> out;
      std::vector<Work> works;
      for (int to = 0; to < world.size(); ++to) {
        for (int tag = 0; tag < kTags; ++tag) {
          const auto value = static_cast<float>(100 * world.rank() + tag);
          out.push_back(std::make_unique<DeviceFloats>(std::vector<float>(tag % 3, value)));
          works.push_back(world.send(out.back()->buffer(), to, tag));
        }
      }
      // Each is here before the next is asked for.
      for (int i = 0; i < kTags; ++i) {
        const int tag = (5 * i + 3) % kTags;
        for (int from = world.size(); from-- > 0;) {
          const DeviceFloats in(std::vector<float>(tag % 3));
          world.recv(in.buffer(), from, tag).wait();
          EXPECT_EQ(in.values(), std::vector<float>(tag % 3, static_cast<float>(100 * from + tag)));
        }
      }
      for (Work& work : works) work.wait();
    });
  }
}

TEST_F(Nccl, AMessageMovesOnWhileItsSenderWaitsForAnotherCall) {
  run(2, [](Communicator& world) {
    const DeviceFloats x({static_cast<float>(world.rank())});
    const DeviceFloats sum({1});
    const auto wait_for_another = [&](int call) {
      float here = 1;
      if (call == 0) world.barrier();
      if (call == 1) world.all_reduce(sum.buffer()).wait();
      if (call == 2) world.all_reduce({&here, 1, DType::kF32}).wait();
    };
    for (int call = 0; call < 3; ++call) {
      if (world.rank() == 0) {
        Work sent = world.send(x.buffer(), 1);
        wait_for_another(call);
        sent.wait();
      } else {
        world.recv(x.buffer(), 0).wait();
        wait_for_another(call);
        EXPECT_THAT(x.values(), testing::ElementsAre(0));
      }
    }
    EXPECT_THAT(sum.values(), testing::ElementsAre(2));
  });
}

TEST_F(Nccl, AStreamWaitsForAMessage) {
  run(2, [](Communicator& world) {
    const DeviceFloats x({static_cast<float>(world.rank())});
    auto* value = static_cast<float*>(x.buffer().data);
    const cuda::Stream side;
    std::atomic<bool> stuck = true;
    std::atomic<float> seen = -1;
    if (world.rank() == 0) {
      hold_up_while(stuck);
      fake::queue(nullptr, [value] { *value = 5; });
      Work sent = world.send(x.buffer(), 1);
      sent.wait(StreamRef{side.get()});
      stuck = false;
      world.barrier();
    } else {
      world.recv(x.buffer(), 0).wait(StreamRef{side.get()});
      fake::queue(side.get(), [&seen, value] { seen = *value; });
      world.barrier();
      while (seen < 0) std::this_thread::sleep_for(1ms);
      EXPECT_EQ(seen, 5);
    }
    fake::wait_until_idle();
  });
}

TEST_F(Nccl, AMessageThatDoesNotFitIsRefusedAndTheNextIsNot) {
  for (const bool over_messages : {false, true}) {
    const auto body = [](Communicator& world) {
      nccl::use_device(world.rank());
      nccl::carry_devices(world);
      const DeviceFloats x({1, 2, 3});
      std::vector<float> here(2);
      const Buffer host = buffer_of(std::span(here));
      if (world.rank() == 0) {
        Work shorter = world.send(x.buffer().slice(0, 2), 1, 4);
        Work to_process = world.send(x.buffer().slice(0, 2), 1, 5);
        Work from_process = world.send(host, 1, 6);
        Work right = world.send(x.buffer(), 1, 4);
        for (Work* work : {&shorter, &to_process, &from_process, &right}) work->wait();
      } else {
        const DeviceFloats in({0, 0, 0});
        EXPECT_EQ(message_of<UsageError>([&] { world.recv(in.buffer(), 0, 4).wait(); }),
                  "recv: rank 0 sent f32[2] with tag 4, wanted f32[3] (rank 1 of 2)");
        EXPECT_EQ(
            message_of<UsageError>([&] { world.recv(host, 0, 5).wait(); }),
            "recv: rank 0 sent f32[2] on cuda with tag 5, wanted f32[2] on cpu (rank 1 of 2)");
        EXPECT_EQ(
            message_of<UsageError>([&] { world.recv(in.buffer().slice(0, 2), 0, 6).wait(); }),
            "recv: rank 0 sent f32[2] on cpu with tag 6, wanted f32[2] on cuda (rank 1 of 2)");
        world.recv(in.buffer(), 0, 4).wait();
        EXPECT_THAT(in.values(), testing::ElementsAre(1, 2, 3));
      }
      world.barrier();
    };
    over_messages ? run_ranks_over_messages(2, body) : run_ranks(2, body);
  }
}

TEST_F(Nccl, AMessageInAWorldOfOneNeedsBothEnds) {
  const auto world = self_communicator();
  nccl::carry_devices(*world);
  const DeviceFloats x({1});
  EXPECT_EQ(message_of<UsageError>([&] { world->recv(x.buffer(), 0, 3).wait(); }),
            "recv: a message with tag 3 must be sent first, none was (rank 0 of 1)");
  EXPECT_EQ(message_of<UsageError>([&] { world->send(x.buffer(), 0, 4).wait(); }),
            "send: a recv with tag 4 must be started first, none was (rank 0 of 1)");
}

TEST_F(Nccl, ALostReceiverIsNamedToItsSender) {
  shm::World shared = shm::World::create(3, {});
  run_threads(3, [&](int rank) {
    const auto world = shared.join(rank);
    nccl::use_device(rank);
    nccl::carry_devices(*world);
    const DeviceFloats x({1});
    if (rank == 0) {
      Work sent = world->send(x.buffer(), 2);
      EXPECT_FALSE(sent.test());
      world->barrier();
      EXPECT_THAT(message_of<CommError>([&] { sent.wait(); }),
                  HasSubstr("rank 2 is lost: killed by signal 9"));
      EXPECT_THAT(message_of<CommError>([&] { world->send(x.buffer(), 1).wait(); }),
                  HasSubstr("rank 2 is lost"));
    } else {
      world->barrier();
      if (rank == 2) shared.mark_lost(2, "killed by signal 9");
    }
  });
}

TEST_F(Nccl, AReceiverThatIsLostInTheMiddleIsNamedToItsSender) {
  Network network(2);
  std::atomic<bool> stuck = true;
  run_threads(2, [&](int rank) {
    const auto world = message::Group::world(network.transport(rank));
    nccl::use_device(rank);
    nccl::carry_devices(*world);
    const DeviceFloats x({1});
    // Both have called it, and the receiver's device never comes to it.
    if (rank == 1) hold_up_while(stuck);
    Work work = rank == 0 ? world->send(x.buffer(), 1) : world->recv(x.buffer(), 0);
    world->barrier();
    for (int i = 0; i < 20; ++i) {
      EXPECT_FALSE(work.test());
      std::this_thread::sleep_for(1ms);
    }
    world->barrier();
    if (rank == 1) network.kill(1, "connection closed by peer");
    const std::string verdict = message_of<CommError>([&] { work.wait(); });
    if (rank == 0) {
      EXPECT_THAT(verdict, HasSubstr("rank 1 is lost: connection closed by peer"));
    }
    stuck = false;
    fake::wait_until_idle();  // what is queued uses x
  });
}

TEST_F(Nccl, AReceiverThatHasLeftIsNamedToItsSender) {
  run(2, [](Communicator& world) {
    const DeviceFloats x({1});
    if (world.rank() == 1) return;
    EXPECT_THAT(message_of<CommError>([&] { world.send(x.buffer(), 1).wait(); }),
                HasSubstr("rank 1 has left"));
  });
}

TEST_F(Nccl, AMessageWithoutItsOtherEndIsNamed) {
  run(2,
      [](Communicator& world) {
        const DeviceFloats x({1});
        const std::string verdict = message_of<CommError>([&] {
          (world.rank() == 0 ? world.send(x.buffer(), 1, 3) : world.recv(x.buffer(), 0, 4)).wait();
        });
        EXPECT_THAT(verdict,
                    testing::AnyOf(HasSubstr("has waited for its other end for 0.3 s (rank "),
                                   HasSubstr("has left")));
      },
      {.timeout = 300ms});
}

TEST_F(Nccl, AMessageBetweenRanksThatCannotConnectEndsBoth) {
  for (const bool share_device : {false, true}) {
    if (!share_device) fake::set_faults({.cannot_begin = true});
    run_ranks_over_messages(2, [&](Communicator& world) {
      nccl::use_device(share_device ? 0 : world.rank());
      nccl::carry_devices(world);
      const DeviceFloats x({1});
      const auto exchange = [&] {
        (world.rank() == 0 ? world.send(x.buffer(), 1) : world.recv(x.buffer(), 0)).wait();
      };
      if (share_device) {
        EXPECT_THAT(message_of<UsageError>(exchange),
                    HasSubstr("ranks 0 and 1 both have 0000:00:00.0"));
      } else {
        EXPECT_THAT(message_of<CommError>(exchange),
                    HasSubstr("nccl: rank 1 cannot begin: ncclGetUniqueId: a fake NCCL error"));
      }
    });
    fake::set_faults({});
  }
}

// --- refusals: before anything is published, so that the communicator goes on

TEST_F(Nccl, RefusesMemoryThatIsNoDevices) {
  run(2, [](Communicator& world) {
    std::vector<float> host(3);
    const Buffer mislabeled{host.data(), 3, DType::kF32, Device::kCuda};
    EXPECT_THAT(message_of<UsageError>([&] { world.all_reduce(mislabeled); }),
                HasSubstr("must point to memory of a CUDA device, as its Buffer says, and does not "
                          "(rank " +
                          std::to_string(world.rank()) + " of 2)"));
    const DeviceFloats x({1, 2, 3});
    EXPECT_THAT(message_of<UsageError>([&] {
                  world.all_gather({host.data(), 6, DType::kF32}, x.buffer());
                }),
                HasSubstr("out and in must lie on one device, got cpu and cuda"));
    const int other = 2 + world.rank();
    nccl::use_device(other);
    const DeviceFloats elsewhere({1, 2, 3});
    nccl::use_device(world.rank());
    world.all_reduce(x.buffer()).wait();
    EXPECT_THAT(message_of<UsageError>([&] { world.all_reduce(elsewhere.buffer()); }),
                HasSubstr("must lie on CUDA device " + std::to_string(world.rank()) +
                          ", as all of this rank's, got device " + std::to_string(other)));
    world.all_reduce(x.buffer()).wait();
    EXPECT_THAT(x.values(), testing::ElementsAre(4, 8, 12));
  });
}

TEST_F(Nccl, ACommunicatorWithoutALaneSaysWhatIsMissing) {
  run_ranks(2, [](Communicator& world) {
    const DeviceFloats x({1});
    EXPECT_THAT(message_of<UsageError>([&] { world.all_reduce(x.buffer()); }),
                HasSubstr("all_reduce: the data lies on a CUDA device, which takes a build of "
                          "trireme with NCCL"));
    EXPECT_THAT(message_of<UsageError>([&] { world.allocate(8, Device::kCuda); }),
                HasSubstr("allocate: the data lies on a CUDA device"));
  });
}

TEST_F(Nccl, ADeviceThatIsNotThereIsNamed) {
  fake::set_device_count(2);
  EXPECT_EQ(nccl::device_count(), 2);
  EXPECT_THAT(message_of<UsageError>([] { nccl::use_device(2); }),
              HasSubstr("the CUDA device must be in [0, 2), got 2"));
  fake::set_device_count(0);
  EXPECT_EQ(nccl::device_count(), 0);
}

// --- verdicts

TEST_F(Nccl, TwoRanksOnOneDeviceAreToldSo) {
  run_ranks(3, [](Communicator& world) {
    nccl::use_device(world.rank() / 2);
    nccl::carry_devices(world);
    const DeviceFloats x({1});
    EXPECT_THAT(message_of<UsageError>([&] { world.all_reduce(x.buffer()).wait(); }),
                HasSubstr("each rank must have a CUDA device of its own, ranks 0 and 1 both have "
                          "0000:00:00.0"));
  });
}

TEST_F(Nccl, ADeviceHereAndAProcessThereAreAMismatch) {
  run(2, [](Communicator& world) {
    const auto part = world.split(0);
    const DeviceFloats there({1, 2});
    std::vector<float> here(2);
    const std::string verdict = message_of<UsageError>([&] {
      part->all_reduce(world.rank() == 0 ? there.buffer() : buffer_of(std::span(here))).wait();
    });
    EXPECT_THAT(verdict, HasSubstr("rank 0 called all_reduce(f32[2] on cuda, sum)"));
    EXPECT_THAT(verdict, HasSubstr("rank 1 called all_reduce(f32[2], sum)"));
    world.barrier();
  });
}

TEST_F(Nccl, ThatCannotBeginIsTheSameErrorOnEveryRank) {
  fake::set_faults({.cannot_begin = true});
  run(3, [](Communicator& world) {
    const DeviceFloats x({1});
    EXPECT_THAT(message_of<CommError>([&] { world.all_reduce(x.buffer()).wait(); }),
                HasSubstr("nccl: rank 0 cannot begin: ncclGetUniqueId: a fake NCCL error"));
    EXPECT_THAT(message_of<CommError>([&] { world.barrier(); }), HasSubstr("rank 0 cannot begin"));
  });
}

TEST_F(Nccl, RanksThatDoNotMeetAreNotWaitedForForEver) {
  fake::set_faults({.never_meets = true});
  const auto begin = Clock::now();
  run(2,
      [](Communicator& world) {
        const DeviceFloats x({1});
        EXPECT_THAT(message_of<CommError>([&] { world.all_reduce(x.buffer()).wait(); }),
                    testing::AnyOf(HasSubstr("ncclCommInitRankConfig: did not end in time"),
                                   HasSubstr("has left")));
      },
      {.timeout = 300ms});
  EXPECT_LT(Clock::now() - begin, 10s);
}

TEST_F(Nccl, AFailureOfNcclEndsEveryRank) {
  run(2, [](Communicator& world) {
    const DeviceFloats x({1});
    world.all_reduce(x.buffer()).wait();
    world.barrier();
    fake::set_faults({.fails_on_rank = 1});
    const std::string verdict = message_of<CommError>([&] { world.all_reduce(x.buffer()).wait(); });
    EXPECT_THAT(verdict, world.rank() == 1 ? HasSubstr("nccl: remote process exited")
                                           : HasSubstr("rank 1 has left"));
    EXPECT_EQ(message_of<CommError>([&] { world.all_reduce(x.buffer()).wait(); }), verdict);
  });
  EXPECT_EQ(fake::open_communicators(), 0);
}

TEST_F(Nccl, ARankThatIsLostInTheMiddleIsNamedAtOnce) {
  shm::World shared = shm::World::create(3, {});
  std::atomic<bool> stuck = true;
  std::atomic<int> told = 0;
  run_threads(3, [&](int rank) {
    const auto world = shared.join(rank);
    nccl::use_device(rank);
    nccl::carry_devices(*world);
    const DeviceFloats x({1});
    world->all_reduce(x.buffer()).wait();
    if (rank == 2) {
      // All have called it; its device never comes to it, and then it is gone.
      hold_up_while(stuck);
      Work work = world->all_reduce(x.buffer());
      world->barrier();
      shared.mark_lost(2, "killed by signal 9");
      EXPECT_THAT(message_of<CommError>([&] { work.wait(); }), HasSubstr("rank 2 is lost"));
    } else {
      Work work = world->all_reduce(x.buffer());
      world->barrier();
      const auto begin = Clock::now();
      EXPECT_THAT(message_of<CommError>([&] { work.wait(); }),
                  HasSubstr("rank 2 is lost: killed by signal 9"));
      EXPECT_LT(Clock::now() - begin, 2s);
    }
    if (++told == 3) stuck = false;
    fake::wait_until_idle();  // what is queued uses x
  });
}

// The same over messages, where a peer's end comes by the transport.
TEST_F(Nccl, ARankOfAnotherHostThatIsLostIsNamedAtOnce) {
  Network network(3);
  std::atomic<bool> stuck = true;
  run_threads(3, [&](int rank) {
    const auto world = message::Group::world(network.transport(rank));
    nccl::use_device(rank);
    nccl::carry_devices(*world);
    const DeviceFloats x({1});
    world->all_reduce(x.buffer()).wait();
    if (rank == 2) {
      hold_up_while(stuck);
    }
    Work work = world->all_reduce(x.buffer());
    world->barrier();
    if (rank == 2) network.kill(2, "connection closed by peer");
    const auto begin = Clock::now();
    const std::string verdict = message_of<CommError>([&] { work.wait(); });
    if (rank != 2) {
      EXPECT_THAT(verdict, HasSubstr("rank 2 is lost: connection closed by peer"));
      EXPECT_LT(Clock::now() - begin, 2s);
    }
    stuck = false;
    fake::wait_until_idle();  // what is queued uses x
  });
}

TEST_F(Nccl, AFailureOfNcclIsToldToOtherHosts) {
  Network network(2);
  run_threads(2, [&](int rank) {
    const auto world = message::Group::world(network.transport(rank));
    nccl::use_device(rank);
    nccl::carry_devices(*world);
    const DeviceFloats x({1});
    world->all_reduce(x.buffer()).wait();
    world->barrier();
    fake::set_faults({.fails_on_rank = 1});
    EXPECT_THAT(message_of<CommError>([&] { world->all_reduce(x.buffer()).wait(); }),
                HasSubstr("nccl: remote process exited"));
  });
}

TEST_F(Nccl, ACollectiveThatDoesNotEndIsNamed) {
  std::atomic<bool> stuck = true;
  std::atomic<int> told = 0;
  run(2,
      [&](Communicator& world) {
        const DeviceFloats x({1, 2});
        world.all_reduce(x.buffer()).wait();
        world.barrier();
        if (world.rank() == 1) {
          hold_up_while(stuck);
        }
        EXPECT_THAT(message_of<CommError>([&] { world.all_reduce(x.buffer()).wait(); }),
                    testing::AnyOf(HasSubstr("has not ended 0.5 s after every rank had called it"),
                                   HasSubstr("has left")));
        if (++told == 2) stuck = false;
        fake::wait_until_idle();  // what is queued uses x
      },
      {.timeout = 500ms});
}

TEST_F(Nccl, AnotherThreadMayAbortIt) {
  std::atomic<bool> stuck = true;
  run(2, [&](Communicator& world) {
    const DeviceFloats x({1});
    world.all_reduce(x.buffer()).wait();
    world.barrier();
    if (world.rank() == 1) {
      hold_up_while(stuck);
    }
    Work work = world.all_reduce(x.buffer());
    world.barrier();
    std::thread aborter;
    if (world.rank() == 0) {
      aborter = std::thread([&] {
        std::this_thread::sleep_for(50ms);
        world.abort(std::make_exception_ptr(CommError("the user has had enough")));
      });
    }
    const std::string verdict = message_of<CommError>([&] { work.wait(); });
    if (world.rank() == 0) {
      aborter.join();
      EXPECT_EQ(verdict, "the user has had enough");
      stuck = false;
    }
    fake::wait_until_idle();
  });
}

TEST_F(Nccl, ThatDoesNotLetGoDelaysAnErrorBySecondsOnly) {
  const auto begin = Clock::now();
  run(2, [](Communicator& world) {
    const DeviceFloats x({1});
    world.all_reduce(x.buffer()).wait();
    world.barrier();
    fake::set_faults({.fails_on_rank = 1, .does_not_let_go = true});
    EXPECT_NE(message_of<CommError>([&] { world.all_reduce(x.buffer()).wait(); }),
              "nothing was thrown");
  });
  EXPECT_LT(Clock::now() - begin, 20s);
  fake::set_faults({});
  for (int i = 0; i < 1000 && fake::open_communicators() > 0; ++i) std::this_thread::sleep_for(5ms);
  EXPECT_EQ(fake::open_communicators(), 0);
}

}  // namespace
}  // namespace trireme::test
