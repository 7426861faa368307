// Communication alone, without libtorch: the ranks of this host sum an array in place.
//
//   build/release/trireme run -n 4 build/release/examples/core
//
// Rank 0 prints "4 ranks: 1 + 2 + ... + 4 = 10, a million times".
#include <algorithm>
#include <iostream>
#include <span>

#include "trireme/comm/self/self.h"
#include "trireme/comm/shm/world.h"
#include "trireme/launch/environment.h"

using namespace trireme;

// Joins the shared memory of `trireme run`; without it this process is a world of one.
std::unique_ptr<Communicator> join() {
  const RankEnvironment environment = read_environment();
  if (!environment.world_fd) return self_communicator();
  return shm::World::open(*environment.world_fd).join(environment.rank);
}

int main() {
  const auto world = join();
  constexpr std::size_t kCount = 1'000'000;

  // Memory that all ranks of the host share is reduced in place.
  const Memory memory = world->allocate(kCount * sizeof(float));
  const std::span numbers(static_cast<float*>(memory.data()), kCount);
  std::ranges::fill(numbers, static_cast<float>(world->rank() + 1));
  world->all_reduce(buffer_of(numbers)).wait();

  const int ranks = world->size();
  const auto sum = static_cast<float>(ranks * (ranks + 1) / 2);
  const bool right = std::ranges::all_of(numbers, [&](float x) { return x == sum; });
  if (world->rank() == 0) {
    std::cout << ranks << " ranks: 1 + 2 + ... + " << ranks << " = " << numbers[0]
              << ", a million times\n";
  }
  world->barrier();  // no rank may free memory that another still reads
  return right ? 0 : 1;
}
