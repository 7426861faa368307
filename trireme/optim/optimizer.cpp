#include "trireme/optim/optimizer.h"

#include <fmt/format.h>

#include <algorithm>

#include "trireme/base/error.h"
#include "trireme/kernels/reduce.h"

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

// Returns the gradient of a block as one array: in place, or summed in `scratch`.
class GradientBlocks {
 public:
  explicit GradientBlocks(const Shard& shard) : shard_(shard), terms_(shard.gradient.size()) {}

  const void* block(std::int64_t first, std::int64_t count) {
    const DType dtype = shard_.values.dtype;
    const std::size_t offset = static_cast<std::size_t>(first) * size_of(dtype);
    std::transform(shard_.gradient.begin(), shard_.gradient.end(), terms_.begin(),
                   [&](const void* term) { return static_cast<const std::byte*>(term) + offset; });
    if (shard_.tree == nullptr) return terms_.front();
    void* const outs[] = {scratch_};
    const double divisor = shard_.divisor > 0 ? shard_.divisor : shard_.tree->virtual_workers();
    tree_reduce(outs, terms_, *shard_.tree, count, dtype, ReduceOp::kSum, divisor);
    return scratch_;
  }

 private:
  const Shard& shard_;
  std::vector<const void*> terms_;
  alignas(kCacheLine) std::byte scratch_[Optimizer::kBlock * sizeof(double)];
};

}  // namespace

Optimizer::Optimizer(std::string_view name, std::span<Shard> shards, Rates rates,
                     std::vector<StateArray> state_arrays)
    : name_(name), shards_(shards), rates_(rates), state_arrays_(std::move(state_arrays)) {
  std::size_t bytes = 0;
  for (const Shard& shard : shards_) {
    require_f32_or_f64(name_, shard);
    bytes += padded_bytes(shard) * state_arrays_.size();
  }
  memory_ = ZeroedMemory(bytes);
  std::byte* at = memory_.data();
  for (const Shard& shard : shards_) {
    ShardState& state = states_.emplace_back();
    groups_.push_back({.rates = rates_});
    for (std::size_t slot = 0; slot < state_arrays_.size(); ++slot) {
      state.arrays.push_back({at, shard.values.count, shard.values.dtype});
      fill(state.arrays.back(), state_arrays_[slot].initial);
      at += padded_bytes(shard);
    }
  }
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
                      "lr_factor{}{}, trainable",
                      i, option, name_, rates_.weight_decay ? ", weight_decay" : "",
                      rates_.betas ? ", betas" : ""));
    };
    if (groups[i].weight_decay && !rates_.weight_decay) refuse("weight_decay");
    if (groups[i].betas && !rates_.betas) refuse("betas");
  }
}

void Optimizer::set_groups(std::span<const ParameterGroup> groups) {
  require_options_of(groups);
  for (std::size_t i = 0; i < shards_.size(); ++i) {
    ShardGroup& mine = groups_[i];
    const ParameterGroup* group =
        group_of(groups, {shards_[i].name, shards_[i].region.full_shape()});
    const ParameterGroup none;
    if (group == nullptr) group = &none;
    mine.lr_factor = group->lr_factor;
    mine.is_trainable = group->trainable;
    mine.rates.weight_decay = group->weight_decay ? group->weight_decay : rates_.weight_decay;
    mine.rates.betas = group->betas ? group->betas : rates_.betas;
  }
}

void Optimizer::update_shard(const Shard& shard, ShardState& state, ShardGroup& group) {
  ++state.step;
  group.rates.lr = rates_.lr * group.lr_factor;
  GradientBlocks gradient(shard);
  std::vector<void*> arrays(state.arrays.size());
  for (std::int64_t first = 0; first < shard.values.count; first += kBlock) {
    const std::int64_t count = std::min(kBlock, shard.values.count - first);
    const void* const block = gradient.block(first, count);
    std::transform(state.arrays.begin(), state.arrays.end(), arrays.begin(),
                   [&](const Buffer& array) { return array.slice(first, count).data; });
    apply({shard.values.slice(first, count), block, gradient_scale_, gradient_clip_value_},
          group.rates, arrays, state.step);
  }
}

std::vector<StateTensor> Optimizer::state() {
  std::vector<StateTensor> state;
  for (std::size_t i = 0; i < shards_.size(); ++i) {
    const Shard& shard = shards_[i];
    state.push_back({.name = shard.name + ".step",
                     .region = Region({1}),
                     .values = {&states_[i].step, 1, DType::kI64}});
    for (std::size_t array = 0; array < state_arrays_.size(); ++array) {
      state.push_back({.name = fmt::format("{}.{}", shard.name, state_arrays_[array].name),
                       .region = shard.region,
                       .values = states_[i].arrays[array]});
    }
  }
  return state;
}

}  // namespace trireme
