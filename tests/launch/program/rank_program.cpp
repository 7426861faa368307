// A program that the launcher tests start: it joins the shared world of its launcher and does what
// its first argument names.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iostream>

#include "trireme/base/error.h"
#include "trireme/comm/shm/world.h"
#include "trireme/launch/environment.h"
#include "trireme/launch/exit_codes.h"

namespace {

using namespace trireme;

int print_variables() {
  for (const char* name : {"RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR",
                           "MASTER_PORT", "OMP_NUM_THREADS", "OF_THE_TEST"}) {
    const char* value = std::getenv(name);
    std::cout << name << '=' << (value != nullptr ? value : "(not set)") << '\n';
  }
  return 0;
}

int print_arguments(int argc, char** argv) {
  for (int i = 2; i < argc; ++i) std::cout << argv[i] << '\n';
  return 0;
}

// Rank r gives r + 1: the sum is known.
int print_sum() {
  const RankEnvironment environment = read_environment();
  const auto world = shm::World::open(environment.world_fd.value()).join(environment.rank);
  std::int64_t value = world->rank() + 1;
  world->all_reduce({&value, 1, DType::kI64}).wait();
  std::cout << "sum " << value << std::endl;
  return 0;
}

// The last rank dies; the others wait for it.
int lose_the_last_rank() {
  const RankEnvironment environment = read_environment();
  const auto world = shm::World::open(environment.world_fd.value()).join(environment.rank);
  world->barrier();
  if (environment.rank == environment.world_size - 1) {
    std::cerr << "I am about to crash\n";
    std::abort();
  }
  world->barrier();
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string task = argc > 1 ? argv[1] : "";
  try {
    if (task == "variables") return print_variables();
    if (task == "arguments") return print_arguments(argc, argv);
    if (task == "sum") return print_sum();
    if (task == "lose") return lose_the_last_rank();
  } catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
    return static_cast<int>(trireme::exit_code_of(error));
  }
  return 99;
}
