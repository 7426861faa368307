#include "trireme/optim/optimizer.h"

#include <fmt/format.h>

#include <algorithm>

#include "trireme/base/error.h"
#include "trireme/kernels/norm.h"
#include "trireme/kernels/reduce.h"

namespace trireme {

namespace {

constexpr std::size_t kCacheLine = 64;

std::int64_t blocks_of(const Shard& shard) {
  return (shard.values.count + Optimizer::kBlock - 1) / Optimizer::kBlock;
}

std::size_t padded_bytes(const Shard& shard) {
  return (shard.values.bytes() + kCacheLine - 1) / kCacheLine * kCacheLine;
}

void require_f32_or_f64(std::string_view optimizer, const Shard& shard) {
  if (shard.values.dtype == DType::kF32 || shard.values.dtype == DType::kF64) return;
  throw UsageError(fmt::format("{}: parameter {} must be f32 or f64, got {}", optimizer, shard.name,
                               name_of(shard.values.dtype)));
}

// Where a block of the gradient lies once it is one array: in place, or summed up in `scratch`.
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
    tree_reduce(outs, terms_, *shard_.tree, count, dtype, ReduceOp::kMean);
    return scratch_;
  }

 private:
  const Shard& shard_;
  std::vector<const void*> terms_;
  alignas(kCacheLine) std::byte scratch_[Optimizer::kBlock * sizeof(double)];
};

}  // namespace

Optimizer::Optimizer(std::string_view name, std::span<Shard> shards, double lr,
                     std::vector<std::string> state_names)
    : name_(name), shards_(shards), lr_(lr), state_names_(std::move(state_names)) {
  std::size_t bytes = 0;
  std::int64_t blocks = 0;
  for (const Shard& shard : shards_) {
    require_f32_or_f64(name_, shard);
    bytes += padded_bytes(shard) * state_names_.size();
    blocks += blocks_of(shard);
  }
  memory_ = StateMemory(bytes);
  block_squares_.resize(static_cast<std::size_t>(blocks));
  std::byte* at = memory_.data();
  for (const Shard& shard : shards_) {
    ShardState& state = states_.emplace_back();
    for (std::size_t slot = 0; slot < state_names_.size(); ++slot) {
      state.arrays.push_back({at, shard.values.count, shard.values.dtype});
      at += padded_bytes(shard);
    }
  }
}

void Optimizer::step() {
  double* squares = block_squares_.data();
  for (std::size_t i = 0; i < shards_.size(); ++i) {
    const Shard& shard = shards_[i];
    if (shard.has_gradient) {
      update_shard(shard, i, squares);
    } else {
      std::fill_n(squares, blocks_of(shard), 0.0);
    }
    squares += blocks_of(shard);
  }
}

void Optimizer::update_shard(const Shard& shard, std::size_t index, double* squares) {
  ShardState& state = states_[index];
  ++state.step;
  GradientBlocks gradient(shard);
  std::vector<void*> arrays(state.arrays.size());
  for (std::int64_t first = 0; first < shard.values.count; first += kBlock) {
    const std::int64_t count = std::min(kBlock, shard.values.count - first);
    const void* const block = gradient.block(first, count);
    std::transform(state.arrays.begin(), state.arrays.end(), arrays.begin(),
                   [&](const Buffer& array) { return array.slice(first, count).data; });
    update({shard.values.slice(first, count), block, gradient_scale_, gradient_clip_value_}, arrays,
           state.step);
    // After the update, which reads all arrays side by side: the block is in the cache by then.
    *squares++ = sum_of_squares({const_cast<void*>(block), count, shard.values.dtype});
  }
}

void Optimizer::fill_state(std::size_t slot, double value) {
  for (const ShardState& state : states_) {
    const Buffer& array = state.arrays[slot];
    if (array.dtype == DType::kF32) {
      std::fill_n(array.as<float>(), array.count, static_cast<float>(value));
    } else {
      std::fill_n(array.as<double>(), array.count, value);
    }
  }
}

std::vector<Optimizer::Slot> Optimizer::state() {
  std::vector<Slot> slots;
  for (std::size_t i = 0; i < shards_.size(); ++i) {
    slots.push_back({&shards_[i], "step", {&states_[i].step, 1, DType::kI64}});
    for (std::size_t slot = 0; slot < state_names_.size(); ++slot) {
      slots.push_back({&shards_[i], state_names_[slot], states_[i].arrays[slot]});
    }
  }
  return slots;
}

}  // namespace trireme
