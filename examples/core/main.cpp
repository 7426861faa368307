// Communication alone, without libtorch: the ranks of this host add up an array in place.
//
//   build/release/trireme run -n 4 build/release/examples/core
//
// Comes out, from rank 0: "4 ranks: 1 + 2 + ... + 4 = 10, a million times".
#include <algorithm>
#include <iostream>
#include <span>

#include "trireme/comm/self/self.h"
#include "trireme/comm/shm/world.h"
#include "trireme/launch/environment.h"

using namespace trireme;

// Who we are and where the shared memory is, as `trireme run` says; alone without it.
std::unique_ptr<Communicator> join() {
  const RankEnvironment told = read_environment();
  if (!told.world_fd) return self_communicator();
  return shm::World::open(*told.world_fd).join(told.rank);
}

int main() {
  const auto world = join();
  constexpr std::size_t kCount = 1'000'000;

  // Memory that every rank of the host sees is reduced where it lies.
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
  world->barrier();  // memory is given back once nobody reads it
  return right ? 0 : 1;
}
