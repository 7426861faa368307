#include "trireme/train/divergence.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <string>

#include "trireme/kernels/norm.h"

namespace trireme {

namespace {

bool is_finite(const Shard& shard) {
  return !shard.has_gradient || all_finite({const_cast<void*>(shard.gradient.front()),
                                            shard.values.count, shard.values.dtype});
}

// The index of the first parameter with a bad gradient in this rank's shards; the number of
// parameters if there is none.
std::int64_t first_bad_parameter(const std::vector<NamedTensor>& parameters,
                                 std::span<const Shard> shards) {
  const auto is_bad = [&](const NamedTensor& parameter) {
    return std::ranges::any_of(shards, [&](const Shard& shard) {
      return shard.name == parameter.first && !is_finite(shard);
    });
  };
  return std::ranges::find_if(parameters, is_bad) - parameters.begin();
}

}  // namespace

void throw_diverged(std::string_view what, const Model& model, std::span<const Shard> shards,
                    Strategy& strategy, Communicator& world) {
  strategy.gradient_norm();  // makes each gradient one array
  const auto parameters = model.tensors().parameters;
  std::int64_t first = first_bad_parameter(parameters, shards);
  // Ranks that hold all shards found the same parameter, and asynchronous ones must not wait.
  if (!strategy.shards_are_whole()) {
    world.all_reduce(buffer_of(std::span(&first, 1)), ReduceOp::kMin).wait();
  }
  if (first == static_cast<std::int64_t>(parameters.size())) {
    throw DivergedError(fmt::format(
        "training diverged: {}; every gradient is finite, the outputs are too large: try a smaller "
        "optimizer.lr",
        what));
  }
  throw DivergedError(
      fmt::format("training diverged: {}; the first parameter with a bad gradient is {}. Try a "
                  "smaller optimizer.lr, training.clip_norm or lr_scheduler.warmup_steps",
                  what, parameters[static_cast<std::size_t>(first)].first));
}

}  // namespace trireme
