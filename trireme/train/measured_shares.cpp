#include "trireme/train/measured_shares.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <span>
#include <vector>

#include "trireme/comm/self/self.h"
#include "trireme/train/endless_run.h"

namespace trireme {

namespace {

constexpr int kUncountedSteps = 3;
constexpr int kFewestSteps = 5;
constexpr double kSeconds = 1;
constexpr double kSmallest = 0.01;

double steps_per_second(EndlessRun& run) {
  using Clock = std::chrono::steady_clock;
  const auto begin = Clock::now();
  double seconds = 0;
  int steps = 0;
  while (steps < kFewestSteps || seconds < kSeconds) {
    run.step();
    ++steps;
    seconds = std::chrono::duration<double>(Clock::now() - begin).count();
  }
  return steps / seconds;
}

double speed_of(const Config& config, Communicator& world) {
  const Config mine = share_of(config, world.rank(), world.size());
  const auto alone = self_communicator();
  EndlessRun run(mine, *alone);
  for (int step = 0; step < kUncountedSteps; ++step) run.step();
  world.barrier();
  return steps_per_second(run) * static_cast<double>(mine.training.virtual_workers);
}

}  // namespace

Config with_measured_shares(Config config, Communicator& world) {
  if (!config.training.measure_shares) return config;
  double mine = speed_of(config, world);
  std::vector<double>& shares = config.training.shares;
  shares.resize(static_cast<std::size_t>(world.size()));
  world.all_gather(buffer_of(std::span(shares)), buffer_of(std::span(&mine, 1))).wait();
  const double fastest = std::ranges::max(shares);
  // In hundredths, for those who read them in config.toml.
  for (double& share : shares) {
    share = std::max(kSmallest, std::round(share / fastest / kSmallest) * kSmallest);
  }
  config.training.measure_shares = false;
  return config;
}

}  // namespace trireme
