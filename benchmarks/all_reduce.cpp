// All-reduce (f32 sum, in place) beside ranks that copy the same bytes at once with memcpy.
//
//     bench_all_reduce [ranks] [seconds per size]
//
// Forks one process a rank, pinned to core rank % cores. A batch is a row of back-to-back calls
// that takes 20 ms or more; its time a call is that of the slowest rank; the table shows medians
// over batches, in which allocated memory, heap memory and the copy take turns.

#include <fmt/format.h>
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "trireme/base/error.h"
#include "trireme/comm/shm/world.h"

namespace {

using trireme::Buffer;
using trireme::Communicator;
using trireme::DType;
using trireme::Memory;

constexpr double kBatchSeconds = 0.02;
constexpr int kMostCallsInBatch = 2000;

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

void pin_to_core(int rank) {
  cpu_set_t cores;
  CPU_ZERO(&cores);
  CPU_SET(rank % sysconf(_SC_NPROCESSORS_ONLN), &cores);
  sched_setaffinity(0, sizeof(cores), &cores);
}

double slowest(Communicator& world, double seconds) {
  world.all_reduce({&seconds, 1, DType::kF64}, trireme::ReduceOp::kMax).wait();
  return seconds;
}

/// One thing that is timed, and what a call of it took in each batch.
struct Contender {
  std::function<void()> call;
  int calls = 1;
  std::vector<double> seconds;

  double median() {
    std::sort(seconds.begin(), seconds.end());
    return seconds[seconds.size() / 2];
  }
};

double time_batch(Communicator& world, const Contender& contender) {
  world.barrier();
  const double begin = now();
  for (int i = 0; i < contender.calls; ++i) contender.call();
  return slowest(world, (now() - begin) / contender.calls);
}

void fill(float* x, std::int64_t count, int rank) {
  for (std::int64_t i = 0; i < count; ++i) x[i] = static_cast<float>((i * 7 + rank * 13) % 101);
}

void check(const float* x, std::int64_t count, int ranks) {
  for (std::int64_t i = 0; i < count; ++i) {
    float sum = 0;
    for (int rank = 0; rank < ranks; ++rank) sum += static_cast<float>((i * 7 + rank * 13) % 101);
    if (x[i] != sum) throw trireme::Error(fmt::format("wrong sum at {}", i));
  }
}

void measure(Communicator& world, std::int64_t bytes, double budget) {
  const std::int64_t count = bytes / 4;
  const Memory memory = world.allocate(bytes);
  std::vector<float> heap(count);
  std::vector<char> from(bytes, 1);
  std::vector<char> to(bytes, 2);
  const Buffer shared{memory.data(), count, DType::kF32};
  const Buffer own{heap.data(), count, DType::kF32};
  std::vector<Contender> contenders(3);
  contenders[0].call = [&] { world.all_reduce(shared).wait(); };
  contenders[1].call = [&] { world.all_reduce(own).wait(); };
  contenders[2].call = [&] {
    std::memcpy(to.data(), from.data(), bytes);
    asm volatile("" ::"r"(to.data()) : "memory");
  };
  for (const Buffer& x : {shared, own}) {
    fill(x.as<float>(), count, world.rank());
    world.all_reduce(x).wait();
    check(x.as<float>(), count, world.size());
    std::memset(x.data, 0, bytes);
  }
  for (Contender& contender : contenders) {
    const double once = time_batch(world, contender);
    contender.calls =
        static_cast<int>(std::clamp(kBatchSeconds / once, 1.0, 1.0 * kMostCallsInBatch));
    contender.calls = static_cast<int>(slowest(world, contender.calls));
    time_batch(world, contender);
  }
  const double begin = now();
  do {
    for (Contender& contender : contenders)
      contender.seconds.push_back(time_batch(world, contender));
  } while (slowest(world, now() - begin) < budget || contenders[0].seconds.size() < 7);
  if (world.rank() != 0) return;
  const double allocated = contenders[0].median();
  const double unseen = contenders[1].median();
  const double copy = contenders[2].median();
  fmt::print("| {} | {} | {:.2f} | {:.2f} | {:.2f} | {:.2f} | {:.2f} | {:.2f} |\n", world.size(),
             bytes, allocated * 1e6, bytes / allocated / 1e9, copy * 1e6, allocated / copy,
             unseen * 1e6, unseen / copy);
  std::fflush(stdout);
}

void run_rank(trireme::shm::World& world, int rank, double budget) {
  pin_to_core(rank);
  const auto communicator = world.join(rank);
  for (const std::int64_t bytes :
       {std::int64_t{4}, std::int64_t{1} << 10, std::int64_t{64} << 10, std::int64_t{1} << 20,
        std::int64_t{16} << 20, std::int64_t{64} << 20, std::int64_t{128} << 20,
        std::int64_t{256} << 20}) {
    measure(*communicator, bytes, budget);
  }
}

}  // namespace

int main(int argc, char** argv) {
  const int ranks = argc > 1 ? std::atoi(argv[1]) : 2;
  const double budget = argc > 2 ? std::atof(argv[2]) : 2.0;
  trireme::shm::World world = trireme::shm::World::create(ranks);
  fmt::print(
      "| ranks | bytes | all_reduce us | GB/s | concurrent memcpy us | ratio | heap memory us | "
      "ratio "
      "|\n|---|---|---|---|---|---|---|---|\n");
  std::fflush(stdout);
  for (int rank = 0; rank < ranks; ++rank) {
    if (fork() != 0) continue;
    try {
      run_rank(world, rank, budget);
    } catch (const std::exception& error) {
      fmt::print(stderr, "rank {}: {}\n", rank, error.what());
      _exit(1);
    }
    _exit(0);
  }
  int failures = 0;
  for (int status = 0; wait(&status) > 0;) failures += status != 0;
  return failures;
}
