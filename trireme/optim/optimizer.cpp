#include "trireme/optim/optimizer.h"

#include <fmt/format.h>

#include <algorithm>

#include "trireme/base/error.h"
#include "trireme/base/hash.h"
#include "trireme/base/random.h"
#include "trireme/base/runs.h"
#include "trireme/kernels/reduce.h"
#include "trireme/kernels/stochastic_rounding.h"

namespace trireme {

namespace {

constexpr std::size_t kCacheLine = 64;

std::size_t padded_bytes(const Shard& shard) {
  return (shard.values.bytes() + kCacheLine - 1) / kCacheLine * kCacheLine;
}

void require_f32_or_f64(std::string_view optimizer, const Shard& shard) {
  if (shard.values.dtype == DType::kF32 || shard.values.dtype == DType::kF64) return;
  throw UsageError(fmt::format("{}: parameter {} must be f32 or f64, got {}", optimizer, shard.name,
                               name_of(shard.values.dtype)));
}

void fill(const Buffer& array, double value) {
  if (value == 0) return;  // memory is zero already
  if (array.dtype == DType::kF32) {
    std::fill_n(array.as<float>(), array.count, static_cast<float>(value));
  } else {
    std::fill_n(array.as<double>(), array.count, value);
  }
}

// Returns the gradient of a block, or of a whole tensor, as one array: in place, or summed here.
class GradientBlocks {
 public:
  // `memory` is for the sum of a block of any length; null: at most kBlock elements.
  GradientBlocks(const Shard& shard, void* memory)
      : shard_(shard), terms_(shard.gradient.size()), sum_(memory != nullptr ? memory : block_) {}

  const void* block(std::int64_t first, std::int64_t count) {
    const DType dtype = shard_.values.dtype;
    const std::size_t offset = static_cast<std::size_t>(first) * size_of(dtype);
    std::transform(shard_.gradient.begin(), shard_.gradient.end(), terms_.begin(),
                   [&](const void* term) { return static_cast<const std::byte*>(term) + offset; });
    if (shard_.tree == nullptr) return terms_.front();
    void* const outs[] = {sum_};
    const double divisor = shard_.divisor > 0 ? shard_.divisor : shard_.tree->virtual_workers();
    tree_reduce(outs, terms_, *shard_.tree, count, dtype, ReduceOp::kSum, divisor);
    return sum_;
  }

 private:
  const Shard& shard_;
  std::vector<const void*> terms_;
  alignas(kCacheLine) std::byte block_[Optimizer::kBlock * sizeof(double)];
  void* sum_;
};

}  // namespace

Optimizer::Optimizer(std::string_view name, std::span<Shard> shards, Rates rates,
                     std::vector<StateArray> state_arrays, WholeTensors whole)
    : name_(name),
      shards_(shards),
      rates_(rates),
      state_arrays_(std::move(state_arrays)),
      whole_(std::move(whole)) {
  for (const Shard& shard : shards_) {
    require_f32_or_f64(name_, shard);
    groups_.push_back(options_of(shard, {}));
    require_whole(shard, groups_.back());
  }
  allocate_state();
}

void Optimizer::allocate_state() {
  std::size_t bytes = 0;
  bytes_of_scratch_ = 0;
  for (std::size_t i = 0; i < shards_.size(); ++i) {
    bytes += padded_bytes(shards_[i]) * state_arrays(i).size();
    if (!needs_whole(groups_[i])) continue;
    bytes_of_scratch_ = std::max(bytes_of_scratch_, padded_bytes(shards_[i]));
  }
  memory_ = ZeroedMemory(bytes);
  scratch_ = ZeroedMemory(bytes_of_scratch_ * (1 + whole_.scratch_arrays));
  states_.assign(shards_.size(), {});
  std::byte* at = memory_.data();
  for (std::size_t i = 0; i < shards_.size(); ++i) {
    for (const StateArray& array : state_arrays(i)) {
      const Buffer& values = shards_[i].values;
      states_[i].arrays.push_back({at, values.count, values.dtype});
      fill(states_[i].arrays.back(), array.initial);
      at += padded_bytes(shards_[i]);
    }
  }
}

Buffer Optimizer::scratch(std::size_t index, const Buffer& values) {
  return {scratch_.data() + (1 + index) * bytes_of_scratch_, values.count, values.dtype};
}

std::span<const Optimizer::StateArray> Optimizer::state_arrays(std::size_t shard) const {
  return groups_[shard].rates.matrix ? whole_.matrix_arrays : state_arrays_;
}

void Optimizer::step() {
  for (std::size_t i = 0; i < shards_.size(); ++i) {
    if (!shards_[i].has_gradient || !groups_[i].is_trainable) continue;
    update_shard(shards_[i], states_[i], groups_[i]);
  }
}

Optimizer::Rates Optimizer::rates_with(double lr_factor) const {
  Rates rates = rates_;
  rates.lr *= lr_factor;
  return rates;
}

void Optimizer::require_options_of(std::span<const ParameterGroup> groups) const {
  check_values(groups);
  for (std::size_t i = 0; i < groups.size(); ++i) {
    const auto refuse = [&](std::string_view option) {
      throw UsageError(
          fmt::format("optimizer.groups[{}]: {} is not an option of {}; its groups have "
                      "lr_factor{}{}{}, trainable",
                      i, option, name_, rates_.weight_decay ? ", weight_decay" : "",
                      rates_.betas ? ", betas" : "", has_rule_for_matrices() ? ", rule" : ""));
    };
    if (groups[i].weight_decay && !rates_.weight_decay) refuse("weight_decay");
    if (groups[i].betas && !rates_.betas) refuse("betas");
    if (!groups[i].rule.empty() && !has_rule_for_matrices()) refuse("rule");
  }
}

void Optimizer::set_groups(std::span<const ParameterGroup> groups) {
  require_options_of(groups);
  std::vector<ShardGroup> changed;
  bool has_other_rules = false;
  for (std::size_t i = 0; i < shards_.size(); ++i) {
    changed.push_back(options_of(shards_[i], groups));
    require_whole(shards_[i], changed[i]);
    if (changed[i].rates.matrix.has_value() == groups_[i].rates.matrix.has_value()) continue;
    has_other_rules = true;
    if (states_[i].step == 0) continue;
    throw UsageError(
        fmt::format("{}: set_groups() gives parameter {} another rule after {} "
                    "updates; set groups before the first",
                    name_, shards_[i].name, states_[i].step));
  }
  groups_ = std::move(changed);
  if (has_other_rules) allocate_state();
}

Optimizer::ShardGroup Optimizer::options_of(const Shard& shard,
                                            std::span<const ParameterGroup> groups) const {
  const ParameterInfo parameter{shard.name, shard.region.full_shape()};
  const ParameterGroup none;
  const ParameterGroup* found = group_of(groups, parameter);
  const ParameterGroup& group = found != nullptr ? *found : none;
  return {.lr_factor = group.lr_factor,
          .rates = {.weight_decay = group.weight_decay ? group.weight_decay : rates_.weight_decay,
                    .betas = group.betas ? group.betas : rates_.betas,
                    .matrix = matrix_of(parameter, group)},
          .is_trainable = group.trainable};
}

std::optional<MatrixShape> Optimizer::matrix_of(const ParameterInfo& parameter,
                                                const ParameterGroup& group) const {
  if (!has_rule_for_matrices() || group.rule == "adamw") return std::nullopt;
  if (group.rule.empty() && kind_of(parameter) != "hidden") return std::nullopt;
  return matrix_shape_of(parameter);
}

bool Optimizer::needs_whole(const ShardGroup& group) const {
  return !whole_.reason.empty() && (!has_rule_for_matrices() || group.rates.matrix);
}

void Optimizer::require_whole(const Shard& shard, const ShardGroup& group) const {
  if (!needs_whole(group) || shard.region.is_whole()) return;
  throw UsageError(fmt::format(
      "{}: {} must be a whole parameter, since {}, got its elements {}; use a strategy whose "
      "ranks update whole parameters (replicated, local_steps, parameter_server), or another "
      "optimizer",
      name_, shard.name, whole_.reason, to_string(shard.region)));
}

void Optimizer::update_shard(const Shard& shard, ShardState& state, ShardGroup& group) {
  ++state.step;
  group.rates.lr = rates_.lr * group.lr_factor;
  const bool is_whole = needs_whole(group);
  const std::int64_t longest = is_whole ? std::max<std::int64_t>(1, shard.values.count) : kBlock;
  GradientBlocks gradient(shard, is_whole ? scratch_.data() : nullptr);
  std::vector<void*> arrays(state.arrays.size());
  for (std::int64_t first = 0; first < shard.values.count; first += longest) {
    const std::int64_t count = std::min(longest, shard.values.count - first);
    const void* const block = gradient.block(first, count);
    std::transform(state.arrays.begin(), state.arrays.end(), arrays.begin(),
                   [&](const Buffer& array) { return array.slice(first, count).data; });
    apply({shard.values.slice(first, count), block, gradient_scale_, gradient_clip_value_},
          group.rates, arrays, state.step);
  }
  round_stochastically(shard, state.step);
}

void Optimizer::round_stochastically(const Shard& shard, std::int64_t step) const {
  if (!rounding_seed_ || shard.values.dtype != DType::kF32) return;
  const CounterRandom random(
      mix_seed(*rounding_seed_, fnv1a(shard.name), static_cast<std::uint64_t>(step)));
  for (const Run& run : Runs(shard.region)) {
    round_stochastically_to_bf16(shard.values.as<float>() + run.local, run.count, random,
                                 static_cast<std::uint64_t>(run.full));
  }
}

std::vector<StateTensor> Optimizer::state() {
  std::vector<StateTensor> state;
  for (std::size_t i = 0; i < shards_.size(); ++i) {
    const Shard& shard = shards_[i];
    state.push_back({.name = shard.name + ".step",
                     .region = Region({1}),
                     .values = {&states_[i].step, 1, DType::kI64},
                     .is_written = shard.is_written});
    for (std::size_t array = 0; array < states_[i].arrays.size(); ++array) {
      state.push_back({.name = fmt::format("{}.{}", shard.name, state_arrays(i)[array].name),
                       .region = shard.region,
                       .values = states_[i].arrays[array],
                       .is_written = shard.is_written});
    }
  }
  return state;
}

}  // namespace trireme
