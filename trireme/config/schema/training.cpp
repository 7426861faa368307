#include "trireme/config/schema/rules.h"
#include "trireme/config/schema/sections.h"

namespace trireme {

namespace {

constexpr std::int64_t kMaxEpochs = 1'000'000;
constexpr std::int64_t kMaxVirtualWorkers = 1 << 16;
constexpr std::int64_t kMaxThreads = 1024;
constexpr std::int64_t kMaxSkippedSteps = 1'000'000;

}  // namespace

void add_keys(std::vector<ConfigKey>& keys, Config::Training& c) {
  const KeyAdder add{keys, "training."};
  add("epochs", &c.epochs, "passes over the data, if steps is 0", positive_up_to(kMaxEpochs));
  add("steps", &c.steps, "optimizer updates; 0: as many as epochs needs", not_negative());
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
  add("precision", &c.precision, "of data and parameters", one_of({"f32", "f64"}));
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
