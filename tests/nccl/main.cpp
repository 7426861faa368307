// The suites of communicators on devices: each rank is a thread with a device of its own. The calls
// are compared in shared memory, or over messages.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>

#include "tests/comm/engine.h"
#include "tests/comm/in_process.h"
#include "tests/nccl/fake_cuda.h"
#include "tests/nccl/on_device.h"
#include "trireme/comm/message/group.h"
#include "trireme/comm/nccl/nccl.h"

namespace trireme::test {
namespace {

void run_on_device(std::unique_ptr<Communicator> world, const RankFunction& body) {
  nccl::use_device(world->rank());
  nccl::carry_devices(*world);
  body(*on_device(std::move(world)));
}

void run_over_shared_memory(int ranks, const RankFunction& body) {
  shm::World world = shm::World::create(ranks, {});
  run_threads(ranks, [&](int rank) { run_on_device(world.join(rank), body); });
}

void run_over_messages(int ranks, const RankFunction& body) {
  Network network(ranks);
  run_threads(ranks, [&](int rank) {
    run_on_device(message::Group::world(network.transport(rank)), body);
  });
}

/// What the suites did must not have worked by luck.
class NoOffences : public testing::EmptyTestEventListener {
  void OnTestEnd(const testing::TestInfo&) override {
    for (const std::string& offence : fake::take_offences()) ADD_FAILURE() << offence;
  }
};

}  // namespace
}  // namespace trireme::test

int main(int argc, char** argv) {
  namespace test = trireme::test;
  test::Engine engine{
      .name = "Nccl", .shares_memory = !TRIREME_OVER_MESSAGES, .memory = " on cuda", .meetings = 1};
  engine.run = TRIREME_OVER_MESSAGES ? test::run_over_messages : test::run_over_shared_memory;
  for (int ranks = 1; ranks <= std::min(4, trireme::nccl::device_count()); ++ranks) {
    engine.rank_counts.push_back(ranks);
  }
  if (engine.rank_counts.empty()) {
    std::puts("this machine has no CUDA device");
    return 77;
  }
  test::engine_of_program() = &engine;
  testing::InitGoogleTest(&argc, argv);
  testing::UnitTest::GetInstance()->listeners().Append(new test::NoOffences);
  return RUN_ALL_TESTS();
}
