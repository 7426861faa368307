#include "trireme/model/model.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <set>
#include <string>

#include "trireme/base/error.h"
#include "trireme/base/random.h"
#include "trireme/tensor/backward_call.h"
#include "trireme/tensor/gradient_hook.h"

namespace trireme {

namespace {

void require_unique_names(const NamedTensors& tensors) {
  std::set<std::string> names;
  for (const auto* group : {&tensors.parameters, &tensors.buffers}) {
    for (const auto& [name, tensor] : *group) {
      if (names.insert(name).second) continue;
      throw UsageError(fmt::format(
          "model: each tensor must have a name of its own, got two named \"{}\"", name));
    }
  }
}

std::uint64_t seed_of(const RandomKey& key, std::int64_t block) {
  const std::uint64_t of_pass = mix_seed(key.seed, static_cast<std::uint64_t>(key.step),
                                         static_cast<std::uint64_t>(key.virtual_worker));
  return mix_seed(of_pass, static_cast<std::uint64_t>(block));
}

// Calls the hooks of one forward pass's backward pass, in order: whichever of two events comes
// first ends a block, the gradient of its input or the end of the backward pass.
class BackwardCalls {
 public:
  explicit BackwardCalls(BlockHooks& hooks) : hooks_(hooks) {}

  void begin(std::int64_t block) {
    open_ = block;
    hooks_.before_backward(static_cast<int>(block));
  }

  void end(std::int64_t block) {
    if (open_ != block) return;
    open_ = -1;
    hooks_.after_backward(static_cast<int>(block));
  }

 private:
  BlockHooks& hooks_;
  std::int64_t open_ = -1;
};

}  // namespace

Model::Model(std::vector<std::unique_ptr<Block>> blocks) : blocks_(std::move(blocks)) {
  if (blocks_.empty()) throw UsageError("model: must have at least one block, got none");
  require_unique_names(tensors());
}

at::Tensor Model::forward(const at::Tensor& input) {
  return forward(input, {0, static_cast<std::int64_t>(blocks_.size())});
}

at::Tensor Model::forward(const at::Tensor& input, Range range) {
  const auto count = static_cast<std::int64_t>(blocks_.size());
  if (range.begin < 0 || range.begin >= range.end || range.end > count) {
    throw UsageError(fmt::format("model: blocks must be a part of [0, {}), got [{}, {})", count,
                                 range.begin, range.end));
  }
  if (hooks_ != nullptr) return hooked_forward(input, range);
  at::Tensor x = input;
  for (std::int64_t block = range.begin; block < range.end; ++block) x = forward_block(x, block);
  return x;
}

at::Tensor Model::forward_block(const at::Tensor& input, std::int64_t block) {
  Block& unit = *blocks_[static_cast<std::size_t>(block)];
  if (random_key_ && is_training_) unit.seed(seed_of(*random_key_, block));
  return unit.forward(input);
}

at::Tensor Model::hooked_forward(const at::Tensor& input, Range range) {
  const auto calls = std::make_shared<BackwardCalls>(*hooks_);
  at::Tensor x = call_in_backward(input, [calls, block = range.begin] { calls->end(block); });
  for (std::int64_t block = range.begin; block < range.end; ++block) {
    hooks_->before_forward(static_cast<int>(block));
    x = forward_block(x, block);
    hooks_->after_forward(static_cast<int>(block));
    x = call_in_backward(x, [calls, block] {
      calls->end(block + 1);
      calls->begin(block);
      after_this_backward([calls, block] { calls->end(block); });
    });
  }
  return x;
}

NamedTensors Model::tensors() const {
  return each_once(tensors_under_all_names());
}

NamedTensors Model::tensors_under_all_names() const {
  NamedTensors all;
  for (const auto& block : blocks_) {
    NamedTensors own = block->tensors();
    std::ranges::move(own.parameters, std::back_inserter(all.parameters));
    std::ranges::move(own.buffers, std::back_inserter(all.buffers));
  }
  return all;
}

void Model::train(bool on) {
  is_training_ = on;
  for (const auto& block : blocks_) block->train(on);
}

}  // namespace trireme
