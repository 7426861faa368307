#include "trireme/model/model.h"

#include <ATen/ATen.h>
#include <ATen/autocast_mode.h>
#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <limits>
#include <ranges>
#include <set>
#include <string>

#include "trireme/base/error.h"
#include "trireme/base/random.h"
#include "trireme/model/loss_block.h"
#include "trireme/model/recompute.h"
#include "trireme/tensor/backward_call.h"
#include "trireme/tensor/gradient_hook.h"
#include "trireme/tensor/watched_tensor.h"

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

// libtorch's choice of the operations that are computed in bf16, while it exists.
class Autocast {
 public:
  Autocast() : was_enabled_(at::autocast::is_cpu_enabled()) {
    at::autocast::set_autocast_cpu_dtype(at::kBFloat16);
    at::autocast::set_cpu_enabled(true);
    at::autocast::increment_nesting();
  }
  ~Autocast() {
    // The last one forgets the rounded weights, which the next step changes.
    if (at::autocast::decrement_nesting() == 0) at::autocast::clear_cache();
    at::autocast::set_cpu_enabled(was_enabled_);
  }
  Autocast(const Autocast&) = delete;
  Autocast& operator=(const Autocast&) = delete;

 private:
  bool was_enabled_;
};

// Of libtorch's generator.
std::uint64_t drawn_seed() {
  return static_cast<std::uint64_t>(
      at::randint(std::numeric_limits<std::int64_t>::max(), {1}, at::kLong).item<std::int64_t>());
}

}  // namespace

Model::Model(std::vector<std::unique_ptr<Block>> blocks) : blocks_(std::move(blocks)) {
  if (blocks_.empty()) throw UsageError("model: must have at least one block, got none");
  require_unique_names(tensors());
}

// Calls the hooks of one forward pass's backward pass, in order: whichever of two events comes
// first ends a block, the gradient of its input or the end of the backward pass.
class Model::BackwardCalls {
 public:
  explicit BackwardCalls(std::vector<BlockHooks*> hooks) : hooks_(std::move(hooks)) {}

  void begin(std::int64_t block) {
    open_ = block;
    for (BlockHooks* hooks : hooks_) hooks->before_backward(static_cast<int>(block));
  }

  void end(std::int64_t block) {
    if (open_ != block) return;
    open_ = -1;
    for (BlockHooks* hooks : std::views::reverse(hooks_)) {
      hooks->after_backward(static_cast<int>(block));
    }
  }

 private:
  std::vector<BlockHooks*> hooks_;
  std::int64_t open_ = -1;
};

// One forward pass through some blocks.
class Model::Pass {
 public:
  Pass(Model& model, const at::Tensor& positions)
      : model_(model),
        positions_(positions),
        key_(model.is_training_ ? model.random_key_ : std::nullopt) {
    if (!model.deferred_.is_empty()) {
      throw UsageError(
          "model: the weights have no values yet, as defer_weights() was called: attach the model "
          "to a strategy first");
    }
    if (!model.hooks_.empty()) calls_ = std::make_shared<BackwardCalls>(model.hooks_);
  }

  at::Tensor forward(at::Tensor x, Range range) {
    for (std::int64_t block = range.begin; block < range.end; ++block) {
      x = around(x, block, [&](const at::Tensor& input) { return compute(input, block); });
    }
    return x;
  }

  /// The pass of the last block, which computes a loss.
  LossSum loss(const at::Tensor& x, LossBlock& unit, const at::Tensor& target, const Loss& loss) {
    LossSum result;
    const auto last = static_cast<std::int64_t>(model_.blocks_.size()) - 1;
    result.sum = around(x, last, [&](const at::Tensor& input) {
      prepare(unit, last);
      LossSum computed = unit.loss(input, target, loss);
      result.weight = computed.weight;
      return computed.sum;
    });
    return result;
  }

  void prepare(Block& unit, std::int64_t block) const {
    if (key_) unit.seed(seed_of(*key_, block));
    unit.set_positions(positions_);
  }

 private:
  at::Tensor compute(const at::Tensor& input, std::int64_t block) const {
    const bool recomputes =
        model_.recompute_ == Recompute::kFull && model_.is_training_ && at::GradMode::is_enabled();
    return recomputes ? recomputed_block(input, block) : forward_block(input, block);
  }

  at::Tensor forward_block(const at::Tensor& input, std::int64_t block) const {
    Block& unit = *model_.blocks_[static_cast<std::size_t>(block)];
    prepare(unit, block);
    if (!model_.compute_.native || model_.computes_itself_[static_cast<std::size_t>(block)]) {
      return unit.forward(input);
    }
    const Autocast autocast;
    const at::Tensor output = unit.forward(input);
    return output.scalar_type() == at::kBFloat16 ? output.to(at::kFloat) : output;
  }

  at::Tensor recomputed_block(const at::Tensor& input, std::int64_t block) const {
    Pass pass = *this;
    // The second time must draw the same random numbers.
    if (!pass.key_) pass.key_ = RandomKey{.seed = drawn_seed()};
    // The gradient of a parameter with several names leaves the block once.
    const NamedTensors tensors =
        each_once(model_.blocks_[static_cast<std::size_t>(block)]->tensors());
    std::vector<at::Tensor> parameters;
    for (const NamedTensor& parameter : tensors.parameters) parameters.push_back(parameter.second);
    return recomputed(
        input, std::move(parameters),
        [pass, block, buffers = tensors.buffers, is_again = false](const at::Tensor& x) mutable {
          // Buffers, such as running statistics, have seen these samples the first time.
          std::vector<WatchedTensor> seen;
          if (is_again) {
            for (const NamedTensor& buffer : buffers) seen.emplace_back(buffer);
          }
          is_again = true;
          at::Tensor y = pass.forward_block(x, block);
          for (WatchedTensor& buffer : seen) {
            if (buffer.has_changed()) buffer.restore();
          }
          return y;
        });
  }

  // Calls the hooks of a block around `computation`, in the forward and in the backward pass.
  template <class Computation>
  at::Tensor around(const at::Tensor& input, std::int64_t block, const Computation& computation) {
    if (!calls_) return computation(input);
    at::Tensor x = input;
    if (is_first_) x = call_in_backward(x, [calls = calls_, block] { calls->end(block); });
    is_first_ = false;
    model_.before_forward(static_cast<int>(block));
    x = computation(x);
    model_.after_forward(static_cast<int>(block));
    return call_in_backward(x, [calls = calls_, block] {
      calls->end(block + 1);
      calls->begin(block);
      after_this_backward([calls, block] { calls->end(block); });
    });
  }

  Model& model_;
  at::Tensor positions_;
  std::optional<RandomKey> key_;
  std::shared_ptr<BackwardCalls> calls_;  // null: no hooks
  bool is_first_ = true;
};

at::Tensor Model::forward(const at::Tensor& input, const at::Tensor& positions) {
  return forward(input, {0, static_cast<std::int64_t>(blocks_.size())}, positions);
}

at::Tensor Model::forward(const at::Tensor& input, Range range, const at::Tensor& positions) {
  const auto count = static_cast<std::int64_t>(blocks_.size());
  if (range.begin < 0 || range.begin >= range.end || range.end > count) {
    throw UsageError(fmt::format("model: blocks must be a part of [0, {}), got [{}, {})", count,
                                 range.begin, range.end));
  }
  return Pass(*this, positions).forward(input, range);
}

LossSum Model::loss(const Batch& batch, const Loss& loss) {
  auto* const last = dynamic_cast<LossBlock*>(blocks_.back().get());
  if (last == nullptr) return loss(forward(batch.input, batch.positions), batch.target);
  Pass pass(*this, batch.positions);
  const at::Tensor x = pass.forward(batch.input, {0, std::ssize(blocks_) - 1});
  return pass.loss(x, *last, batch.target, loss);
}

EvaluationSums Model::evaluate(const Batch& batch, const Loss& loss, double shift) {
  auto* const last = dynamic_cast<LossBlock*>(blocks_.back().get());
  if (last == nullptr) {
    return loss.evaluate(forward(batch.input, batch.positions), batch.target, shift);
  }
  Pass pass(*this, batch.positions);
  const at::Tensor x = pass.forward(batch.input, {0, std::ssize(blocks_) - 1});
  const auto block = static_cast<int>(blocks_.size()) - 1;
  before_forward(block);
  pass.prepare(*last, block);
  const EvaluationSums sums = last->evaluate(x, batch.target, loss);
  after_forward(block);
  return sums;
}

void Model::before_forward(int block) {
  for (BlockHooks* hooks : hooks_) hooks->before_forward(block);
}

void Model::after_forward(int block) {
  for (BlockHooks* hooks : std::views::reverse(hooks_)) hooks->after_forward(block);
}

void Model::skip_forward() {
  for (int block = 0; block < static_cast<int>(blocks_.size()); ++block) {
    before_forward(block);
    after_forward(block);
  }
}

void Model::set_recompute(Recompute recompute) {
  bool has_attention = false;
  for (const auto& block : blocks_) {
    has_attention |= block->recompute_attention(recompute == Recompute::kSelective);
  }
  if (recompute == Recompute::kSelective && !has_attention) {
    throw UsageError(
        "model: selective recomputation is that of attention, and the model has none; use full or "
        "none");
  }
  recompute_ = recompute;
}

void Model::set_compute(const ComputeType& compute) {
  if (compute.native && compute.operands != DType::kBF16) {
    throw UsageError(fmt::format("model: libtorch multiplies bf16 and no {} on a CPU",
                                 name_of(compute.operands)));
  }
  compute_ = compute;
  computes_itself_.clear();
  for (const auto& block : blocks_) computes_itself_.push_back(block->set_compute(compute));
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

void Model::defer_weights(InitialValues values) {
  deferred_ = DeferredWeights(tensors(), std::move(values));
}

void Model::train(bool on) {
  is_training_ = on;
  for (const auto& block : blocks_) block->train(on);
}

}  // namespace trireme
