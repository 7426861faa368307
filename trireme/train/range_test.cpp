#include "trireme/train/range_test.h"

#include <ATen/Parallel.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <span>
#include <utility>
#include <variant>

#include "trireme/base/error.h"
#include "trireme/base/text.h"
#include "trireme/parallel/relaxed_consistency.h"
#include "trireme/plan/agreement.h"
#include "trireme/train/state_snapshot.h"

namespace trireme {

namespace {

using OnStep = std::function<void(std::int64_t step, double lr, double loss)>;

// More steps than any test makes.
constexpr std::int64_t kLongestRun = std::int64_t{1} << 40;

constexpr double kNotFinite = std::numeric_limits<double>::quiet_NaN();

// The mean over all ranks, weighted by their virtual workers, with the same bits on each of them.
double mean_over_ranks(Trainer& trainer, double loss) {
  Communicator& world = trainer.world();
  std::vector<double> losses(static_cast<std::size_t>(world.size()));
  world.all_gather(buffer_of(std::span(losses)), buffer_of(std::span(&loss, 1))).wait();
  double sum = 0;
  for (int rank = 0; rank < world.size(); ++rank) {
    sum += losses[static_cast<std::size_t>(rank)] *
           static_cast<double>(trainer.tree().virtual_workers_of(rank).size());
  }
  return sum / trainer.tree().virtual_workers();
}

// Makes a step. Returns its loss, or NaN if not all was finite: the same on all ranks that wait for
// each other.
double loss_of_step(Trainer& trainer, double lr) {
  double loss = kNotFinite;
  RelaxedConsistency* const relaxed = trainer.strategy().relaxed();
  try {
    const TrainedStep step = trainer.step({.lr = lr});
    // A step whose gradients overflowed f16 has lowered the loss scale, and counts.
    if (trainer.skipped_steps().in_a_row == 0) loss = step.loss;
  } catch (const DivergedError&) {
    if (relaxed != nullptr) throw;
    trainer.strategy().abandon_step();  // of all ranks: they have the same report
  }
  if (relaxed == nullptr || relaxed->asynchronous()) return loss;
  // Groups end together.
  return relaxed->step_ranks().size() < trainer.world().size() ? mean_over_ranks(trainer, loss)
                                                               : loss;
}

plan::LossCurve run_repeat(Trainer& trainer, const plan::LearningRateRange& range,
                           const OnStep& on_step) {
  plan::RangeTest test(range);
  while (!test.has_ended()) {
    const double lr = test.lr();
    const double loss = loss_of_step(trainer, lr);
    test.add(std::isfinite(loss) ? std::optional(loss) : std::nullopt);
    if (on_step) on_step(test.steps(), lr, loss);
  }
  if (auto* const relaxed = trainer.strategy().relaxed()) relaxed->synchronize();
  return test.curve();
}

OnStep of_repeat(const RangeTestOptions& options, int repeat) {
  if (!options.on_step) return {};
  return [&options, repeat](std::int64_t step, double lr, double loss) {
    options.on_step(repeat, step, lr, loss);
  };
}

void check(const RangeTestOptions& options) {
  plan::check(options.range);
  if (options.repeats >= 1) return;
  throw UsageError(fmt::format("range test: repeats must be 1 or more, got {}", options.repeats));
}

// A step that is not finite ends a repeat, not the program.
Config config_of_test(Config config) {
  config.training.steps = kLongestRun;
  config.training.on_nonfinite = "skip";
  config.training.max_skipped_steps = kLongestRun;
  config.training.measure_shares = false;  // they change no bit
  return config;
}

plan::LossCurve run_repeat_of_new_trainer(const Config& config, const plan::RunPlan& plan,
                                          Communicator& world, const RangeTestOptions& options,
                                          int repeat) {
  Trainer trainer(config, plan, world);
  trainer.continue_after(repeat * options.range.steps);
  try {
    return run_repeat(trainer, options.range, of_repeat(options, repeat));
  } catch (const CommError&) {
    throw;
  } catch (const std::exception& error) {
    trainer.strategy().relaxed()->report_failure(error.what());
    throw;
  }
}

}  // namespace

void require_own_servers(const plan::RunPlan& plan) {
  const auto* const servers = std::get_if<plan::ParameterServer>(&plan.data_parallel);
  if (servers == nullptr || servers->addresses.empty()) return;
  throw UsageError(
      "range test: the servers of communication.servers would keep what the test teaches them; "
      "leave communication.servers out for the test, so that the ranks have servers of their own");
}

std::vector<plan::LossCurve> range_test(Trainer& trainer, const RangeTestOptions& options) {
  check(options);
  const std::int64_t steps = options.range.steps;
  if (trainer.last_step() < steps) {
    throw UsageError(
        fmt::format("range test: a repeat must not have more steps than the run, got {} in a run "
                    "of {}; take fewer, or raise training.steps",
                    steps, counted(trainer.last_step(), "step")));
  }
  StateSnapshot before(trainer);
  const SkippedSteps skipped{.in_all = trainer.skipped_steps().in_all};
  const std::int64_t begin = trainer.steps_done();
  std::vector<plan::LossCurve> curves;
  for (int repeat = 0; repeat < options.repeats; ++repeat) {
    trainer.continue_after((begin + repeat * steps) % (trainer.last_step() - steps + 1), skipped);
    curves.push_back(run_repeat(trainer, options.range, of_repeat(options, repeat)));
    before.restore();
  }
  return curves;
}

std::vector<plan::LossCurve> find_learning_rate_curves(const Config& config,
                                                       const plan::RunPlan& plan,
                                                       Communicator& world,
                                                       const RangeTestOptions& options) {
  check(options);
  require_own_servers(plan);
  at::set_num_threads(static_cast<int>(std::max<std::int64_t>(1, config.training.threads)));
  plan::require_same_configuration(config, world);
  const Config tested = config_of_test(config);
  const bool waits = std::holds_alternative<plan::Replicated>(plan.data_parallel) ||
                     std::holds_alternative<plan::Sharded>(plan.data_parallel) ||
                     std::holds_alternative<plan::HostShared>(plan.data_parallel);
  if (waits) {
    Trainer trainer(tested, plan, world);
    require_same_data(trainer.data().digest, world);
    return range_test(trainer, options);
  }
  std::vector<plan::LossCurve> curves;
  for (int repeat = 0; repeat < options.repeats; ++repeat) {
    curves.push_back(run_repeat_of_new_trainer(tested, plan, world, options, repeat));
  }
  return curves;
}

}  // namespace trireme
