#include "trireme/train/measured_shares.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <span>
#include <utility>
#include <vector>

#include "trireme/comm/self/self.h"
#include "trireme/train/step_benchmark.h"

namespace trireme {

namespace {

constexpr int kWarmUpSteps = 3;
constexpr int kMinSteps = 5;
constexpr double kMeasureSeconds = 1;
constexpr double kSmallestShare = 0.01;

double steps_per_second(StepBenchmark& benchmark) {
  using Clock = std::chrono::steady_clock;
  const auto begin = Clock::now();
  double seconds = 0;
  int steps = 0;
  while (steps < kMinSteps || seconds < kMeasureSeconds) {
    benchmark.step();
    ++steps;
    seconds = std::chrono::duration<double>(Clock::now() - begin).count();
  }
  return steps / seconds;
}

double speed_of(const Config& config, const plan::RunPlan& plan, Communicator& world) {
  const auto alone = self_communicator();
  StepBenchmark benchmark = benchmark_of_share(config, plan, world.rank(), *alone);
  for (int step = 0; step < kWarmUpSteps; ++step) benchmark.step();
  world.barrier();
  return steps_per_second(benchmark) * benchmark.describe().virtual_workers;
}

}  // namespace

void measure_shares(Config& config, plan::RunPlan& plan, Communicator& world) {
  if (!plan.batch.measure_shares) return;
  double mine = speed_of(config, plan, world);
  std::vector<double> shares(static_cast<std::size_t>(world.size()));
  world.all_gather(buffer_of(std::span(shares)), buffer_of(std::span(&mine, 1))).wait();
  const double fastest = std::ranges::max(shares);
  // In hundredths, to be readable in config.toml.
  for (double& share : shares) {
    share = std::max(kSmallestShare, std::round(share / fastest / kSmallestShare) * kSmallestShare);
  }
  config.training.measure_shares = plan.batch.measure_shares = false;
  config.training.shares = plan.batch.shares = std::move(shares);
}

}  // namespace trireme
