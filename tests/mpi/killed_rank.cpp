// Rank 1 dies while the others wait for it: mpirun must end them all, and badly.
#include <chrono>
#include <csignal>

#include "trireme/comm/mpi/mpi.h"

int main() {
  const auto world = trireme::mpi::world();
  if (world->rank() == 1) std::raise(SIGKILL);
  char byte = 0;
  const trireme::message::Chunk chunk{1, &byte, 1};
  world->begin(0, {}, {&chunk, 1})
      ->wait(std::chrono::steady_clock::now() + std::chrono::minutes(10));
}
