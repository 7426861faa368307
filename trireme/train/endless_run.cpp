#include "trireme/train/endless_run.h"

#include <algorithm>
#include <limits>

#include "trireme/train/components.h"

namespace trireme {

namespace {

constexpr std::int64_t kEndless = std::int64_t{1} << 40;

Config endless(Config config) {
  config.training.steps = kEndless;
  // A report takes the norm of the gradient, which is no part of a step.
  config.metrics.every_steps = std::numeric_limits<std::int64_t>::max();
  // What learns nothing cannot diverge, and takes as long.
  config.lr_scheduler = {};
  config.optimizer.lr = 1e-12;
  return config;
}

}  // namespace

EndlessRun::EndlessRun(const Config& config, Communicator& world)
    : config_(endless(config)), run_(config_, world, *this, false) {}

Config share_of(Config config, int rank, int ranks) {
  const ReductionTree tree = tree_of(config, ranks);
  const std::int64_t workers = tree.leaves_of(rank).size();
  config.training.global_batch = std::max(
      workers, (config.training.global_batch * workers + tree.leaves() / 2) / tree.leaves());
  config.training.virtual_workers = workers;
  config.training.shares.clear();
  config.training.seed += 1 + rank;
  config.parallelism.strategy = Config::Parallelism().strategy;
  config.communication = {.transport = config.communication.transport};
  return config;
}

}  // namespace trireme
