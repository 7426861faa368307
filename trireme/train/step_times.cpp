#include "trireme/train/step_times.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <functional>
#include <span>
#include <vector>

#include "trireme/base/hash.h"
#include "trireme/base/host_name.h"
#include "trireme/bench/turns.h"
#include "trireme/comm/self/self.h"
#include "trireme/train/measured_shares.h"
#include "trireme/train/step_benchmark.h"
#include "trireme/train/train.h"

namespace trireme {

namespace {

constexpr std::int64_t kWarmUpSteps = 3;
constexpr std::int64_t kRounds = 10;
constexpr std::int64_t kMinRounds = 7;
constexpr double kWindowSeconds = 0.05;

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

bool is_one_host(Communicator& world) {
  auto mine = static_cast<std::int64_t>(fnv1a(host_name()));
  std::vector<std::int64_t> all(static_cast<std::size_t>(world.size()));
  world.all_gather(buffer_of(std::span(all)), buffer_of(std::span(&mine, 1))).wait();
  return std::ranges::count(all, mine) == std::ssize(all);
}

/// The contenders and what their windows took.
class Rounds {
 public:
  Rounds(const Config& config, const plan::RunPlan& plan, Communicator& world)
      : world_(world),
        alone_(self_communicator()),
        together_(config, plan, world),
        apart_(benchmark_of_share(config, plan, world.rank(), *alone_)),
        is_one_host_(is_one_host(world)) {}

  /// Steps of a window.
  std::int64_t warm_up() {
    window(kWarmUpSteps, [&] { apart_.step(); });
    window(kWarmUpSteps, [&] { together_.communicate(), apart_.communicate(); });
    window(kWarmUpSteps, [&] { together_.step(); });
    const double seconds = window(kWarmUpSteps, [&] { together_.step(); });
    return static_cast<std::int64_t>(std::clamp(kWindowSeconds / seconds, 1.0, 10'000.0));
  }

  void run(std::int64_t steps) {
    together_.take_arrivals();
    const StepBenchmark::Times before = together_.times();
    together_seconds_.push_back(window(steps, [&] { together_.step(); }));
    if (is_one_host_) distance_.push_back(distance_of(together_.take_arrivals()));
    const StepBenchmark::Times& after = together_.times();
    double parts[] = {after.data - before.data, after.compute - before.compute,
                      after.communication - before.communication};
    world_.all_reduce(buffer_of(std::span<double>(parts)), ReduceOp::kMean).wait();
    data_.push_back(parts[0] / static_cast<double>(steps));
    compute_.push_back(parts[1] / static_cast<double>(steps));
    communication_.push_back(parts[2] / static_cast<double>(steps));

    apart_seconds_.push_back(window(steps, [&] { apart_.step(); }));
    ratio_.push_back(together_seconds_.back() / apart_seconds_.back());
    // Both clear the gradients first; only one of them communicates.
    const double both = window(steps, [&] { together_.communicate(); });
    communication_alone_.push_back(both - window(steps, [&] { apart_.communicate(); }));
  }

  StepTimes result(std::int64_t steps) const {
    return {.run = together_.describe(),
            .rounds = static_cast<std::int64_t>(ratio_.size()),
            .steps_per_round = steps,
            .step = median(together_seconds_),
            .data = median(data_),
            .compute = median(compute_),
            .communication = median(communication_),
            .arrival_distance = is_one_host_ ? std::make_optional(median(distance_)) : std::nullopt,
            .independent = median(apart_seconds_),
            .step_over_bound = median(ratio_),
            .communication_alone = std::max(0.0, median(communication_alone_))};
  }

 private:
  // The median over steps of the time between the first rank's arrival and the last one's.
  double distance_of(std::vector<double> mine) const {
    const std::size_t steps = mine.size();
    std::vector<double> all(steps * static_cast<std::size_t>(world_.size()));
    world_.all_gather(buffer_of(std::span(all)), buffer_of(std::span(mine))).wait();
    std::vector<double> distances;
    for (std::size_t step = 0; step < steps; ++step) {
      double first = all[step], last = all[step];
      for (std::size_t i = step; i < all.size(); i += steps) {
        first = std::min(first, all[i]);
        last = std::max(last, all[i]);
      }
      distances.push_back(last - first);
    }
    return median(std::move(distances));
  }

  double window(std::int64_t steps, const std::function<void()>& step) {
    return bench::time_calls(world_, static_cast<int>(steps), step);
  }

  Communicator& world_;
  std::unique_ptr<Communicator> alone_;
  StepBenchmark together_;
  StepBenchmark apart_;
  bool is_one_host_;
  std::vector<double> together_seconds_, data_, compute_, communication_;
  std::vector<double> apart_seconds_, ratio_, communication_alone_, distance_;
};

}  // namespace

double StepTimes::hidden() const {
  return std::clamp(communication_alone - (step - independent), 0.0, communication_alone);
}

StepTimes measure_steps(const Config& config, Communicator& world, StepTimesOptions options) {
  at::set_num_threads(static_cast<int>(std::max<std::int64_t>(1, config.training.threads)));
  plan::RunPlan plan = check(config, world.size());
  Config measured = config;
  measure_shares(measured, plan, world);
  Rounds rounds(measured, plan, world);
  std::int64_t steps = rounds.warm_up();
  if (options.steps > 0) {
    const std::int64_t count = std::min(kRounds, options.steps);
    steps = options.steps / count;
    for (std::int64_t round = 0; round < count; ++round) rounds.run(steps);
    return rounds.result(steps);
  }
  const double begin = now();
  std::int64_t done = 0;
  do {
    rounds.run(steps);
  } while (++done < kMinRounds || bench::slowest(world, now() - begin) < options.seconds);
  return rounds.result(steps);
}

}  // namespace trireme
