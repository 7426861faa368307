#pragma once

#include <ATen/ATen.h>

#include <string>
#include <utility>

#include "trireme/model/block.h"
#include "trireme/model/gpt/attention.h"
#include "trireme/model/gpt/gpt.h"
#include "trireme/model/gpt/vocabulary_loss.h"
#include "trireme/model/loss_block.h"

namespace trireme {

// What the blocks of both transformers share.

/// The places of a block that drop elements have numbers of their own.
enum class DropSite : std::uint64_t { kEmbedding, kAttention, kAttentionOutput, kMlpOutput };

/// A block (Base: Block or LossBlock) whose tensors are parameters, made by parameter().
template <class Base>
class GptBlock : public Base {
 public:
  NamedTensors tensors() const override { return tensors_; }
  void train(bool on) override { is_training_ = on; }
  void seed(std::uint64_t seed) override { seed_ = seed; }
  void set_positions(const at::Tensor& positions) override { positions_ = positions; }
  bool set_compute(const ComputeType& compute) override {
    compute_ = compute;
    return true;
  }

 protected:
  explicit GptBlock(const GptShape& shape) : shape_(shape) {}

  at::Tensor parameter(std::string name, at::IntArrayRef sizes) {
    at::Tensor made = at::zeros(sizes).requires_grad_(true);
    tensors_.parameters.emplace_back(std::move(name), made);
    return made;
  }
  /// The weight of the output layer, [vocabulary, width]: the embedding `table` if it is tied.
  at::Tensor output_weight(const at::Tensor& table) {
    if (!shape_.tied) return parameter("lm_head.weight", {shape_.vocabulary, shape_.width});
    tensors_.parameters.emplace_back("lm_head.weight", table);
    return table;
  }

  Dropout dropout(DropSite site) const {
    return {.fraction = is_training_ ? shape_.dropout : 0,
            .seed = seed_,
            .stream = static_cast<std::uint64_t>(site)};
  }

  const at::Tensor& positions() const { return positions_; }
  const GptShape& shape() const { return shape_; }
  const ComputeType& compute() const { return compute_; }

 private:
  GptShape shape_;
  ComputeType compute_;
  NamedTensors tensors_;
  at::Tensor positions_;
  std::uint64_t seed_ = 0;
  bool is_training_ = true;
};

/// The attention of a layer, which may remember the tokens before.
class LayerAttention {
 public:
  explicit LayerAttention(const GptShape& shape) {
    options_.heads = shape.heads;
    options_.kv_heads = shape.kv_heads;
    options_.head_width = shape.head_width();
  }

  const AttentionOptions& options() const { return options_; }
  void set_recompute(bool on) { options_.recompute = on; }
  void remember(std::int64_t tokens) {
    capacity_ = tokens;
    read_ = 0;
    cache_.reset();
  }

  at::Tensor operator()(const at::Tensor& packed, const at::Tensor& positions,
                        const Dropout& dropout, const ComputeType& compute) {
    options_.compute = compute;
    if (capacity_ == 0) {
      options_.dropout = dropout;
      return attention(packed, positions, options_);
    }
    if (!cache_.defined()) {
      cache_ = at::empty({packed.size(0), capacity_, packed.size(2)}, packed.options());
    }
    at::Tensor y = attention_of_next(packed, cache_, read_, options_);
    read_ += packed.size(1);
    return y;
  }

 private:
  AttentionOptions options_;
  std::int64_t capacity_ = 0;  // 0: nothing is remembered
  std::int64_t read_ = 0;
  at::Tensor cache_;
};

/// A layer, whose attention may compute probabilities again and remember the tokens before.
class GptLayer : public GptBlock<Block> {
 public:
  bool recompute_attention(bool on) override {
    attention_.set_recompute(on);
    return true;
  }
  void remember(std::int64_t tokens) override { attention_.remember(tokens); }

 protected:
  explicit GptLayer(const GptShape& shape) : GptBlock(shape), attention_(shape) {}

  /// packed: [n, length, ...] as attention() takes it.
  at::Tensor attend(const at::Tensor& packed) {
    return attention_(packed, positions(), dropout(DropSite::kAttention), compute());
  }
  const AttentionOptions& attention_options() const { return attention_.options(); }

 private:
  LayerAttention attention_;
};

/// The output layer behind a normalization.
class GptOutput : public GptBlock<LossBlock> {
 public:
  at::Tensor forward(const at::Tensor& x) override {
    return linear({normalized(x), compute()}, weight_);
  }
  LossSum loss(const at::Tensor& x, const at::Tensor& target, const Loss& loss) override {
    return vocabulary_loss(normalized(x), weight_, target, loss, compute());
  }
  EvaluationSums evaluate(const at::Tensor& x, const at::Tensor& target,
                          const Loss& /*loss*/) override {
    return evaluate_vocabulary(normalized(x), weight_, target, compute());
  }

 protected:
  explicit GptOutput(const GptShape& shape) : GptBlock(shape) {}

  /// Makes the weight, [vocabulary, width]: the embedding `table` if it is tied.
  void add_weight(const at::Tensor& table) { weight_ = output_weight(table); }

 private:
  virtual at::Tensor normalized(const at::Tensor& x) const = 0;

  at::Tensor weight_;
};

/// Throws UsageError unless the sizes fit each other.
void require_valid(const GptShape& shape);

}  // namespace trireme
