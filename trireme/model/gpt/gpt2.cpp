#include <ATen/ATen.h>
#include <fmt/format.h>

#include <memory>
#include <string>

#include "trireme/base/error.h"
#include "trireme/model/gpt/functions.h"
#include "trireme/model/gpt/gpt.h"
#include "trireme/model/gpt/parameters.h"

namespace trireme {

namespace {

/// A layer normalization.
struct Norm {
  at::Tensor weight;
  at::Tensor bias;

  at::Tensor operator()(const at::Tensor& x, double eps) const {
    return at::layer_norm(x, {x.size(-1)}, weight, bias, eps);
  }
};

/// A linear layer whose weight is [in, out], as Hugging Face's Conv1D has it.
struct Affine {
  at::Tensor weight;
  at::Tensor bias;

  // x: [n, length, in]
  at::Tensor operator()(const at::Tensor& x, const ComputeType& compute) const {
    return multiply({x, compute}, weight, bias);
  }
};

class Gpt2Embedding final : public GptBlock<Block> {
 public:
  explicit Gpt2Embedding(const GptShape& shape)
      : GptBlock(shape),
        tokens_(parameter("wte.weight", {shape.vocabulary, shape.width})),
        places_(parameter("wpe.weight", {shape.context, shape.width})) {}

  at::Tensor forward(const at::Tensor& tokens) override {
    return dropped(embed(tokens, tokens_, positions(), places_), dropout(DropSite::kEmbedding));
  }

  const at::Tensor& table() const { return tokens_; }

 private:
  at::Tensor tokens_;
  at::Tensor places_;
};

class Gpt2Layer final : public GptLayer {
 public:
  Gpt2Layer(const GptShape& shape, std::int64_t index)
      : GptLayer(shape), prefix_(fmt::format("h.{}.", index)) {
    const std::int64_t width = shape.width;
    before_attention_ = norm("ln_1");
    packed_ = affine("attn.c_attn", width, 3 * width);
    attention_output_ = affine("attn.c_proj", width, width);
    before_mlp_ = norm("ln_2");
    hidden_ = affine("mlp.c_fc", width, shape.mlp_width);
    mlp_output_ = affine("mlp.c_proj", shape.mlp_width, width);
  }

  // x: [n, length, width]
  at::Tensor forward(const at::Tensor& x) override {
    const double eps = shape().norm_eps;
    at::Tensor y = attend(packed_(before_attention_(x, eps), compute()));
    const at::Tensor attended =
        x + dropped(attention_output_(y, compute()), dropout(DropSite::kAttentionOutput));
    y = gelu_tanh(hidden_(before_mlp_(attended, eps), compute()));
    return attended + dropped(mlp_output_(y, compute()), dropout(DropSite::kMlpOutput));
  }

 private:
  Norm norm(const char* name) {
    const std::int64_t width = shape().width;
    const at::Tensor weight = parameter(prefix_ + name + ".weight", {width});
    return {weight, parameter(prefix_ + name + ".bias", {width})};
  }
  Affine affine(const char* name, std::int64_t in, std::int64_t out) {
    const at::Tensor weight = parameter(prefix_ + name + ".weight", {in, out});
    return {weight, parameter(prefix_ + name + ".bias", {out})};
  }

  std::string prefix_;
  Norm before_attention_;
  Affine packed_;
  Affine attention_output_;
  Norm before_mlp_;
  Affine hidden_;
  Affine mlp_output_;
};

class Gpt2Output final : public GptOutput {
 public:
  // `table`: the embedding, for an output layer that is tied to it.
  Gpt2Output(const GptShape& shape, const at::Tensor& table) : GptOutput(shape) {
    norm_.weight = parameter("ln_f.weight", {shape.width});
    norm_.bias = parameter("ln_f.bias", {shape.width});
    add_weight(table);
  }

 private:
  at::Tensor normalized(const at::Tensor& x) const override { return norm_(x, shape().norm_eps); }

  Norm norm_;
};

}  // namespace

Blocks gpt2_blocks(const GptShape& shape, const BlockDone& done) {
  require_valid(shape);
  if (shape.kv_heads != shape.heads) {
    throw UsageError(fmt::format(
        "model gpt2 has keys and values for each head: model.kv_heads must be {}, got {}",
        shape.heads, shape.kv_heads));
  }
  Blocks blocks;
  auto embedding = std::make_unique<Gpt2Embedding>(shape);
  const at::Tensor table = embedding->table();
  append_block(blocks, std::move(embedding), done);
  for (std::int64_t i = 0; i < shape.layers; ++i) {
    append_block(blocks, std::make_unique<Gpt2Layer>(shape, i), done);
  }
  append_block(blocks, std::make_unique<Gpt2Output>(shape, table), done);
  return blocks;
}

}  // namespace trireme
