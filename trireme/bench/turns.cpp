#include "trireme/bench/turns.h"

#include <algorithm>
#include <chrono>

namespace trireme::bench {

namespace {

constexpr double kBatchSeconds = 0.02;
constexpr int kMostCalls = 200'000;
constexpr std::size_t kFewestRounds = 7;

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Returns the number of calls in a batch of `seconds`, found by batches that grow until their time
// is long enough.
int calls_for(const Contender& contender, double seconds) {
  for (int calls = 1;; calls = std::min(kMostCalls, 8 * calls)) {
    const double taken = contender.batch(calls);
    if (taken * calls >= seconds / 4 || calls == kMostCalls) {
      return static_cast<int>(std::clamp(seconds / taken, 1.0, 1.0 * kMostCalls));
    }
  }
}

}  // namespace

double slowest(Communicator& world, double seconds) {
  world.all_reduce({&seconds, 1, DType::kF64}, ReduceOp::kMax).wait();
  return seconds;
}

double time_calls(Communicator& world, int calls, const std::function<void()>& call) {
  // The first barrier wakes ranks that slept while another contender had its turn. All are awake at
  // the second and leave it together.
  world.barrier();
  world.barrier();
  const double begin = now();
  for (int i = 0; i < calls; ++i) call();
  return slowest(world, (now() - begin) / calls);
}

void take_turns(Communicator& world, std::vector<Contender>& contenders, double seconds) {
  const double batch = std::min(kBatchSeconds, seconds / 10);
  for (Contender& contender : contenders) {
    contender.calls = calls_for(contender, batch);
    contender.seconds.clear();
  }
  const double begin = now();
  std::size_t rounds = 0;
  do {
    for (Contender& contender : contenders) {
      contender.seconds.push_back(contender.batch(contender.calls));
    }
    ++rounds;
  } while (slowest(world, now() - begin) < seconds || rounds < kFewestRounds);
  for (Contender& contender : contenders) std::ranges::sort(contender.seconds);
}

}  // namespace trireme::bench
