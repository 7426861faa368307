#include "trireme/train/evaluator.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>
#include <numeric>
#include <span>
#include <vector>

#include "trireme/base/error.h"
#include "trireme/base/partition.h"
#include "trireme/comm/communicator.h"
#include "trireme/data/dataset.h"
#include "trireme/kernels/tree_fold.h"
#include "trireme/model/evaluation.h"
#include "trireme/model/loss.h"
#include "trireme/model/model.h"
#include "trireme/train/evaluation_mode.h"

namespace trireme {

namespace {

// The forward passes of the virtual workers of a rank.
std::int64_t passes_of(std::int64_t samples, const ReductionTree& tree, int rank,
                       std::int64_t batch) {
  std::int64_t passes = 0;
  const Range workers = tree.virtual_workers_of(rank);
  for (std::int64_t worker = workers.begin; worker < workers.end; ++worker) {
    passes += (partition(samples, tree.virtual_workers(), worker).size() + batch - 1) / batch;
  }
  return passes;
}

// Stops early, with sums that mean nothing, if this rank is asked to stop. `passes` counts.
EvaluationSums sums_of(Trainer& trainer, Range samples, double shift, const StopRequested& stop,
                       std::int64_t& passes) {
  const Dataset& dataset = *trainer.data().evaluation;
  const std::int64_t batch = trainer.config().evaluation.batch;
  EvaluationSums sums;
  std::vector<std::int64_t> indices;
  for (std::int64_t at = samples.begin; at < samples.end; at += batch) {
    if (stop && stop()) break;
    indices.resize(static_cast<std::size_t>(std::min(batch, samples.end - at)));
    std::iota(indices.begin(), indices.end(), at);
    const Batch part = dataset.batch(indices);
    sums += trainer.model().evaluate(part, trainer.loss(), shift);
    ++passes;
  }
  return sums;
}

// A target of the set, the same on all ranks: rank 0 has sample 0.
double shift_of(const Dataset& dataset, Communicator& world) {
  if (!dataset.target().is_numbers()) return 0;
  std::array<double, 1> first{};
  if (world.rank() == 0) {
    const std::array<std::int64_t, 1> index{0};
    first[0] = dataset.batch(index).target.flatten()[0].item<double>();
  }
  world.broadcast(buffer_of<double>(first), 0).wait();
  return first[0];
}

// None if a rank was asked to stop.
std::optional<EvaluationSums> sums_over_ranks(Trainer& trainer, const StopRequested& stop) {
  Communicator& world = trainer.saving_group().communicator();
  const ReductionTree& tree = trainer.saving_group().tree();
  const Dataset& dataset = *trainer.data().evaluation;
  const at::NoGradGuard no_grad;
  EvaluationMode mode(trainer.model());
  const double shift = shift_of(dataset, world);
  TreeFold fold(tree, world.rank(), EvaluationSums::kCount);
  std::int64_t passes = 0;
  std::int64_t most = 0;
  for (int rank = 0; rank < world.size(); ++rank) {
    most = std::max(most, passes_of(dataset.size(), tree, rank, trainer.config().evaluation.batch));
  }
  const Range mine = tree.virtual_workers_of(world.rank());
  for (std::int64_t worker = mine.begin; worker < mine.end; ++worker) {
    const Range samples = partition(dataset.size(), tree.virtual_workers(), worker);
    fold.add(sums_of(trainer, samples, shift, stop, passes).flat());
  }
  // The strategy may gather parameters in each pass of every rank.
  for (; passes < most; ++passes) trainer.model().skip_forward();
  mode.restore_buffers();
  std::array<std::int64_t, 1> stopped{stop && stop() ? 1 : 0};
  world.all_reduce(buffer_of<std::int64_t>(stopped), ReduceOp::kMax).wait();
  if (stopped[0] != 0) return std::nullopt;
  world.all_reduce(fold.nodes(), tree).wait();
  EvaluationSums::Flat total{};
  std::copy_n(fold.nodes().as<double>(), total.size(), total.begin());
  return EvaluationSums::of(total);
}

}  // namespace

std::optional<EvaluationReport> evaluate(Trainer& trainer, const StopRequested& stop_requested) {
  const std::optional<EvaluationSums> result = sums_over_ranks(trainer, stop_requested);
  if (!result) return std::nullopt;
  const EvaluationSums& sums = *result;
  EvaluationReport report{.step = trainer.steps_done(),
                          .samples = static_cast<std::int64_t>(sums.samples),
                          .loss = sums.mean_loss()};
  if (!std::isfinite(report.loss)) {
    throw DivergedError(fmt::format(
        "training diverged: after step {} the evaluation's loss is {}: the model's outputs for the "
        "held-back samples are too large or not finite. Try a smaller optimizer.lr, "
        "training.clip_norm or data.standardize",
        report.step, report.loss));
  }
  const DataSets& data = trainer.data();
  if (data.train->target().kind == Target::Kind::kTokens) {
    report.perplexity = std::exp(report.loss);
    if (data.evaluation_bytes > 0) {
      report.bits_per_byte = sums.loss / std::numbers::ln2 / data.evaluation_bytes;
    }
  }
  if (data.train->target().is_numbers()) {
    report.r2 = sums.r2();
  } else {
    report.accuracy = sums.accuracy();
  }
  return report;
}

}  // namespace trireme
