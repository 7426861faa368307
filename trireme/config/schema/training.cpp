#include <cmath>

#include "trireme/config/schema/rules.h"
#include "trireme/config/schema/sections.h"

namespace trireme {

namespace {

constexpr std::int64_t kMaxEpochs = 1'000'000;
constexpr std::int64_t kMaxVirtualWorkers = 1 << 16;
constexpr std::int64_t kMaxThreads = 1024;
constexpr std::int64_t kMaxSkippedSteps = 1'000'000;
constexpr double kMaxLossScale = 16777216;

ConfigKey::Rule loss_scale() {
  return number_rule("a power of two from 1 to 16777216", [](double value) {
    int exponent = 0;
    return value >= 1 && value <= kMaxLossScale && std::frexp(value, &exponent) == 0.5;
  });
}

}  // namespace

void add_keys(std::vector<ConfigKey>& keys, Config::Training& c) {
  const KeyAdder add{keys, "training."};
  add("epochs", &c.epochs, "passes over the data, if steps is 0", positive_up_to(kMaxEpochs));
  add("steps", &c.steps, "optimizer updates; 0: as many as epochs needs", not_negative());
  add("max_time", &c.max_time,
      "the run saves a checkpoint and stops after the step in which so much time has passed since "
      "it was started or resumed: \"3h30m\", or seconds; 0: no limit",
      not_negative());
  add("global_batch", &c.global_batch, "samples of one step over all ranks",
      positive_up_to(kMaxSamples));
  add("virtual_workers", &c.virtual_workers,
      "fixed slices of the global batch: the same number gives the same bits on any number of "
      "ranks, and more slices than ranks accumulate gradients; 0: one for each rank",
      up_to(kMaxVirtualWorkers));
  add("shares", &c.shares,
      "the relative speed of each rank: virtual workers are assigned in proportion, at least one "
      "to each rank; empty: evenly",
      positive_numbers());
  add("measure_shares", &c.measure_shares,
      "measure shares before the first step: each rank computes alone for a second", anything());
  add("precision", &c.precision,
      "f32, f64: of data, parameters and matrix products; bf16, f16: matrices are rounded to it "
      "before they are multiplied, and all else is f32",
      one_of({"f32", "f64", "bf16", "f16"}));
  add("loss_scale", &c.loss_scale,
      "the loss is multiplied by it before the backward pass; it is halved when gradients overflow",
      loss_scale())
      .used_with("training.precision", {"f16"});
  add("loss_scale_growth_steps", &c.loss_scale_growth_steps,
      "the loss scale doubles after so many steps without overflow",
      positive_up_to(kMaxSkippedSteps))
      .used_with("training.precision", {"f16"});
  add("stochastic_rounding", &c.stochastic_rounding,
      "round parameters to bf16 after each update, up or down by chance: they need no f32 masters",
      anything())
      .used_with("training.precision", {"bf16"});
  add("loss", &c.loss, "auto: mse for numbers, cross-entropy for classes",
      one_of({"auto", "mse", "cross_entropy", "bce_with_logits"}));
  add("label_smoothing", &c.label_smoothing,
      "share of each target of a cross-entropy that is spread evenly over the classes", fraction());
  add("z_loss", &c.z_loss,
      "weight of log(sum(exp(outputs)))^2 beside a cross-entropy, which keeps outputs small",
      not_negative());
  add("seed", &c.seed, "of initial weights, shuffling, dropout and generated data", not_negative());
  add("threads", &c.threads,
      "libtorch threads of a rank; 0: 1 if virtual_workers is given, else as OMP_NUM_THREADS or "
      "SLURM_CPUS_PER_TASK says, else cores / ranks that share them",
      up_to(kMaxThreads))
      .may_differ_between_hosts();
  add("clip_norm", &c.clip_norm, "largest L2 norm of the gradient; 0: no limit", not_negative());
  add("clip_value", &c.clip_value, "largest absolute value in the gradient; 0: no limit",
      not_negative());
  add("on_nonfinite", &c.on_nonfinite,
      "when the loss, a gradient or a buffer is infinite or NaN: stop the run, or skip the update "
      "of "
      "that step",
      one_of({"stop", "skip"}));
  add("max_skipped_steps", &c.max_skipped_steps, "so many skipped steps in a row stop the run",
      positive_up_to(kMaxSkippedSteps))
      .used_with("training.on_nonfinite", {"skip"});
}

}  // namespace trireme
