#include "trireme/train/verify_run.h"

#include <ATen/Parallel.h>
#include <fmt/format.h>

#include <algorithm>
#include <utility>
#include <variant>

#include "trireme/base/error.h"
#include "trireme/plan/resolve.h"
#include "trireme/train/trainer.h"

namespace trireme {

namespace {

// An update that has to sum the gradients itself is another path than one after the norm.
bool computes_norm(const Trainer& trainer) {
  return trainer.config().training.clip_norm > 0 || trainer.steps_done() % 2 == 0;
}

void train_beside(const Config& config, Communicator& ranks, StepComparison& comparison) {
  Trainer trainer(config, plan::resolve_derived(config, ranks.size()), ranks);
  while (comparison.goes_on() && trainer.steps_done() < trainer.last_step()) {
    const TrainedStep step = trainer.step({.measure_norm = computes_norm(trainer)});
    comparison.compare({.strategy = trainer.strategy(),
                        .optimizer = &trainer.optimizer(),
                        .loss = step.loss,
                        .norm = step.gradient_norm});
  }
}

}  // namespace

Config reference_of(Config config) {
  // What is not how the model is cut belongs to the computation.
  config.parallelism = {.bucket_bytes = config.parallelism.bucket_bytes,
                        .recompute = config.parallelism.recompute,
                        .pin = config.parallelism.pin};
  config.communication = {.transport = config.communication.transport};
  config.training.shares.clear();
  return config;
}

void require_comparable(const plan::RunPlan& plan, double bound) {
  const auto* servers = std::get_if<plan::ParameterServer>(&plan.data_parallel);
  const bool relaxed =
      servers != nullptr &&
      !std::holds_alternative<plan::ParameterServer::Synchronous>(servers->consistency);
  if (relaxed || std::holds_alternative<plan::LocalSteps>(plan.data_parallel)) {
    throw UsageError(
        "communication.mode must be \"synchronous\": where ranks do not make each step together, "
        "their parameters are not those of one rank, and there is nothing to compare");
  }
  if (plan.compression.codec != "none" && bound == 0) {
    throw UsageError(
        fmt::format("communication.compression = \"{}\" changes bits; compare by a bound (--bound "
                    "0.01), or use communication.compression = \"none\"",
                    plan.compression.codec));
  }
}

Verification verify(const Config& config, Communicator& world, VerifyOptions options) {
  at::set_num_threads(static_cast<int>(std::max<std::int64_t>(1, config.training.threads)));
  Config own = config;
  own.training.measure_shares = false;  // they change no bit
  return verify(
      world,
      [&](Communicator& ranks, StepComparison& comparison) {
        train_beside(comparison.is_reference() ? reference_of(own) : own, ranks, comparison);
      },
      options);
}

}  // namespace trireme
