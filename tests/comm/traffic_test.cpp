#include "trireme/comm/traffic.h"

#include <array>
#include <functional>

#include "tests/comm/backends.h"
#include "trireme/cost/collectives.h"

namespace trireme::test {
namespace {

class TrafficOf : public OnEveryBackend {
 protected:
  static bool shares_all() { return share_memory(0, ranks() - 1); }

  static Traffic moved_by(Communicator& world, const std::function<void()>& call) {
    const Traffic before = world.traffic();
    call();
    return world.traffic() - before;
  }
};

// All but send and recv, which have a pair of ranks.
void call_everything(Communicator& world, std::int64_t count) {
  std::vector<float> x(static_cast<std::size_t>(count)), y(x.size() * world.size()),
      z(y.size(), 1.f);
  const Buffer one = buffer_of(std::span(x));
  const Buffer many = buffer_of(std::span(y));
  const Buffer more = buffer_of(std::span(z));
  const int last = world.size() - 1;
  world.all_reduce(one).wait();
  world.reduce(one, last).wait();
  world.reduce_scatter(one, many).wait();
  world.all_gather(many, one).wait();
  world.all_to_all(many, more).wait();
  world.broadcast(one, last).wait();
  world.gather(many, one, last).wait();
  world.scatter(one, many, last).wait();
  const int right = (world.rank() + 1) % world.size();
  const int left = (world.rank() + last) % world.size();
  Work sending = world.send(one, right);
  world.recv(many.slice(0, count), left).wait();
  sending.wait();
  world.barrier();
}

TEST_P(TrafficOf, WhatAllRanksSendIsWhatAllReceive) {
  for (const std::int64_t count : {3, 70'001}) {
    run([&](Communicator& world) {
      call_everything(world, count);
      const Traffic traffic = world.traffic();
      std::array<std::int64_t, 2> sums = {traffic.sent, traffic.received};
      world.all_reduce({sums.data(), 2, DType::kI64}).wait();
      // Frames of this last call may arrive before their receiver calls it.
      const int ranks = world.size();
      EXPECT_GE(sums[1], sums[0]);
      EXPECT_LE(sums[1], sums[0] + (shares_all() ? 0 : ranks * ranks * 128));
      EXPECT_EQ(traffic.sent > 0, ranks > 1);
    });
  }
}

TEST_P(TrafficOf, AnAllReduceIsWhatTheDocumentsSay) {
  if (std::get<0>(GetParam()) == Backend::kTwoHosts || ranks() == 1) return;
  constexpr std::int64_t kCount = 65'536;
  run([](Communicator& world) {
    std::vector<float> x(kCount);
    const int ranks = world.size();
    // The first call may include the bootstrap of the ranks.
    world.all_reduce(buffer_of(std::span(x))).wait();
    world.barrier();
    const Traffic moved =
        moved_by(world, [&] { world.all_reduce(buffer_of(std::span(x))).wait(); });
    const cost::CollectiveCall call{.kind = OpKind::kAllReduce, .count = kCount};
    const cost::Traffic expected = cost::over_messages(call, ranks, world.rank());
    // Slices end at cache lines. Frames count too, also those of the barriers, which may arrive
    // earlier or later.
    const std::int64_t tolerance = 64 * ranks + (shares_all() ? 0 : 3 * expected.announced_bytes);
    EXPECT_NEAR(moved.sent, expected.bytes_sent, tolerance);
    EXPECT_NEAR(moved.received, expected.bytes_received, tolerance);
    world.barrier();
  });
}

TEST_P(TrafficOf, ASplitCountsForItself) {
  run([](Communicator& world) {
    const auto part = world.split(0);
    std::vector<float> x(10'000);
    const Traffic moved =
        moved_by(world, [&] { part->all_reduce(buffer_of(std::span(x))).wait(); });
    EXPECT_EQ(moved.sent, 0);
    // Summed over all ranks, because one of them may send nothing to other hosts.
    std::int64_t sent = part->traffic().sent;
    world.all_reduce({&sent, 1, DType::kI64}).wait();
    EXPECT_EQ(sent > 10'000, world.size() > 1);
  });
}

TRIREME_ON_EVERY_BACKEND(TrafficOf);

}  // namespace
}  // namespace trireme::test
