#include "trireme/train/step_benchmark.h"

#include <algorithm>
#include <utility>

#include "trireme/parallel/make_strategy.h"
#include "trireme/plan/resolve.h"

namespace trireme {

namespace {

// More steps than any measurement makes.
constexpr std::int64_t kSteps = std::int64_t{1} << 40;

// Positive, as every optimizer requires, and too small to change a parameter, so that the model
// cannot diverge.
constexpr double kLearnsNothing = 1e-12;

Config with_steps(Config config) {
  config.training.steps = kSteps;
  return config;
}

}  // namespace

StepBenchmark::StepBenchmark(Config config, const plan::RunPlan& plan, Communicator& world)
    : trainer_(with_steps(std::move(config)), plan, world) {}

void StepBenchmark::step() {
  const TrainedStep step = trainer_.step({.lr = kLearnsNothing});
  times_.data += step.data_seconds;
  times_.compute += step.compute_seconds;
  times_.communication += step.communication_seconds;
  arrivals_.push_back(step.arrived);
}

StepBenchmark benchmark_of_share(Config config, const plan::RunPlan& plan, int rank,
                                 Communicator& alone) {
  const ReductionTree tree = tree_of(plan);
  const std::int64_t workers = tree.virtual_workers_of(rank).size();
  config.training.global_batch =
      std::max(workers, (config.training.global_batch * workers + tree.virtual_workers() / 2) /
                            tree.virtual_workers());
  config.training.virtual_workers = workers;
  config.training.shares.clear();
  config.training.seed += 1 + rank;
  config.parallelism.strategy = Config::Parallelism().strategy;
  config.communication = {.transport = config.communication.transport};
  const plan::RunPlan share = plan::resolve_derived(config, 1);
  return StepBenchmark(std::move(config), share, alone);
}

}  // namespace trireme
