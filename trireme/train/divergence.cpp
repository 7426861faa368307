#include "trireme/train/divergence.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "trireme/base/error.h"
#include "trireme/comm/objects.h"
#include "trireme/kernels/norm.h"
#include "trireme/model/model.h"
#include "trireme/parallel/relaxed_consistency.h"

namespace trireme {

namespace {

constexpr std::int64_t kNone = std::numeric_limits<std::int64_t>::max();

bool has_finite_gradient(const Shard& shard) {
  return !shard.has_gradient || all_finite({const_cast<void*>(shard.gradient.front()),
                                            shard.values.count, shard.values.dtype});
}

std::int64_t smallest(std::int64_t value, Communicator& ranks) {
  ranks.all_reduce(buffer_of(std::span(&value, 1)), ReduceOp::kMin).wait();
  return value;
}

// The index of the first parameter with a bad gradient on any rank.
std::int64_t first_bad_parameter(const std::vector<NamedTensor>& parameters, Strategy& strategy,
                                 Communicator& world) {
  strategy.gradient_norm();  // makes each gradient one array
  const auto is_bad = [&](const NamedTensor& parameter) {
    return std::ranges::any_of(strategy.shards(), [&](const Shard& shard) {
      return shard.name == parameter.first && !has_finite_gradient(shard);
    });
  };
  const auto found = std::ranges::find_if(parameters, is_bad);
  const std::int64_t first = found == parameters.end() ? kNone : found - parameters.begin();
  // Ranks that hold all shards found the same parameter, and asynchronous ones must not wait.
  return strategy.shards_are_whole() ? first : smallest(first, world);
}

std::string samples_of(const NonFiniteStep& step, const Sampler& sampler, Strategy& strategy,
                       Communicator& world) {
  std::int64_t worker = kNone;
  if (const int bad = step.report.bad_micro_batch; bad >= 0) {
    worker = step.batches.virtual_workers.at(static_cast<std::size_t>(bad));
  }
  RelaxedConsistency* const relaxed = strategy.relaxed();
  worker = smallest(worker, relaxed != nullptr ? relaxed->step_ranks() : world);
  if (worker == kNone) return "";
  std::vector<std::int64_t> samples;
  sampler.indices(step.batches.step, static_cast<int>(worker), samples);
  constexpr std::size_t kShown = 8;
  const std::size_t more = samples.size() - std::min(samples.size(), kShown);
  samples.resize(samples.size() - more);
  return fmt::format(
      "; it came first from virtual worker {} (of the training samples, counted from 0: {}{})",
      worker, fmt::join(samples, ", "), more > 0 ? fmt::format(" and {} more", more) : "");
}

std::string loss_or_gradient_of(const NonFiniteStep& step) {
  if (std::isfinite(step.report.loss)) {
    return fmt::format("the gradient of step {} is not finite", step.step);
  }
  return fmt::format("the loss of step {} is {}", step.step, step.report.loss);
}

}  // namespace

std::string describe(const NonFiniteStep& step, const Sampler& sampler, Strategy& strategy,
                     Communicator& world) {
  const auto parameters = strategy.model().tensors().parameters;
  const std::int64_t bad = first_bad_parameter(parameters, strategy, world);
  const std::string samples = samples_of(step, sampler, strategy, world);
  if (bad != kNone) {
    return fmt::format("{}; the first parameter with a bad gradient is {}{}",
                       loss_or_gradient_of(step), parameters[static_cast<std::size_t>(bad)].first,
                       samples);
  }
  if (!std::isfinite(step.report.loss)) {
    return fmt::format("{}; every gradient is finite, the outputs are too large{}",
                       loss_or_gradient_of(step), samples);
  }
  if (!step.report.bad_buffer.empty()) {
    return fmt::format(
        "step {} would write values that are not finite to the buffer {}, though loss and gradient "
        "are finite",
        step.step, step.report.bad_buffer);
  }
  return fmt::format("{}: its norm is too large{}", loss_or_gradient_of(step), samples);
}

void require_finite_state(std::int64_t step, Optimizer* optimizer, Strategy& strategy,
                          Communicator& ranks) {
  std::string bad;
  const std::span<const Shard> shards = strategy.shards();
  for (std::size_t i = 0; i < shards.size() && bad.empty(); ++i) {
    if (!all_finite(shards[i].values)) bad = "parameter " + shards[i].name;
    if (optimizer == nullptr) continue;
    for (const Buffer& array : optimizer->shard_states()[i].arrays) {
      if (bad.empty() && !all_finite(array)) bad = "the optimizer's state of " + shards[i].name;
    }
  }
  for (const Strategy::State& state : strategy.state()) {
    if (!state.is_written) continue;
    if (bad.empty() && !all_finite(state.values)) bad = "the strategy's state " + state.name;
  }
  const std::int64_t first = smallest(bad.empty() ? kNone : ranks.rank(), ranks);
  if (first == kNone) return;
  bad = broadcast_object(ranks, bad, static_cast<int>(first));
  throw DivergedError(fmt::format(
      "training diverged: after step {} {} is not finite, though every gradient was: the update "
      "was "
      "too large. It is not saved; what was saved before is whole. Try a smaller optimizer.lr, "
      "training.clip_norm or lr_scheduler.warmup_steps",
      step, bad));
}

}  // namespace trireme
