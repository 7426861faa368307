#pragma once

#include <ATen/ATen.h>

#include <string>
#include <utility>

#include "trireme/model/block.h"
#include "trireme/model/gpt/gpt.h"

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

 private:
  GptShape shape_;
  NamedTensors tensors_;
  at::Tensor positions_;
  std::uint64_t seed_ = 0;
  bool is_training_ = true;
};

/// Throws UsageError unless the sizes fit each other.
void require_valid(const GptShape& shape);

}  // namespace trireme
