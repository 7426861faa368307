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

class LlamaEmbedding final : public GptBlock<Block> {
 public:
  explicit LlamaEmbedding(const GptShape& shape)
      : GptBlock(shape),
        table_(parameter("model.embed_tokens.weight", {shape.vocabulary, shape.width})) {}

  at::Tensor forward(const at::Tensor& tokens) override {
    return dropped(embed(tokens, table_, {}, {}), dropout(DropSite::kEmbedding));
  }

  const at::Tensor& table() const { return table_; }

 private:
  at::Tensor table_;
};

class LlamaLayer final : public GptLayer {
 public:
  LlamaLayer(const GptShape& shape, std::int64_t index) : GptLayer(shape) {
    const std::string prefix = fmt::format("model.layers.{}.", index);
    const std::int64_t width = shape.width;
    const std::int64_t narrow = shape.kv_heads * shape.head_width();
    before_attention_ = parameter(prefix + "input_layernorm.weight", {width});
    queries_ = parameter(prefix + "self_attn.q_proj.weight", {width, width});
    keys_ = parameter(prefix + "self_attn.k_proj.weight", {narrow, width});
    values_ = parameter(prefix + "self_attn.v_proj.weight", {narrow, width});
    attention_output_ = parameter(prefix + "self_attn.o_proj.weight", {width, width});
    before_mlp_ = parameter(prefix + "post_attention_layernorm.weight", {width});
    gate_ = parameter(prefix + "mlp.gate_proj.weight", {shape.mlp_width, width});
    up_ = parameter(prefix + "mlp.up_proj.weight", {shape.mlp_width, width});
    mlp_output_ = parameter(prefix + "mlp.down_proj.weight", {width, shape.mlp_width});
  }

  // x: [n, length, width]
  at::Tensor forward(const at::Tensor& x) override {
    const double eps = shape().norm_eps;
    const ProductInput of_attention(rms_norm(x, before_attention_, eps), compute());
    at::Tensor y = pack_rotated(linear(of_attention, queries_), linear(of_attention, keys_),
                                linear(of_attention, values_), positions(), attention_options(),
                                shape().rope_theta);
    y = linear({attend(y), compute()}, attention_output_);
    const at::Tensor attended = x + dropped(y, dropout(DropSite::kAttentionOutput));
    const ProductInput of_mlp(rms_norm(attended, before_mlp_, eps), compute());
    y = swiglu(linear(of_mlp, gate_), linear(of_mlp, up_));
    y = linear({y, compute()}, mlp_output_);
    return attended + dropped(y, dropout(DropSite::kMlpOutput));
  }

 private:
  at::Tensor before_attention_;
  at::Tensor queries_;
  at::Tensor keys_;
  at::Tensor values_;
  at::Tensor attention_output_;
  at::Tensor before_mlp_;
  at::Tensor gate_;
  at::Tensor up_;
  at::Tensor mlp_output_;
};

class LlamaOutput final : public GptOutput {
 public:
  // `table`: the embedding, for an output layer that is tied to it.
  LlamaOutput(const GptShape& shape, const at::Tensor& table)
      : GptOutput(shape), norm_(parameter("model.norm.weight", {shape.width})) {
    add_weight(table);
  }

 private:
  at::Tensor normalized(const at::Tensor& x) const override {
    return rms_norm(x, norm_, shape().norm_eps);
  }

  at::Tensor norm_;
};

}  // namespace

Blocks llama_blocks(const GptShape& shape, const BlockDone& done) {
  require_valid(shape);
  if (shape.head_width() % 2 != 0) {
    throw UsageError(fmt::format(
        "model llama rotates pairs: model.width / model.heads must be even, got {} / {} = {}",
        shape.width, shape.heads, shape.head_width()));
  }
  Blocks blocks;
  auto embedding = std::make_unique<LlamaEmbedding>(shape);
  const at::Tensor table = embedding->table();
  append_block(blocks, std::move(embedding), done);
  for (std::int64_t i = 0; i < shape.layers; ++i) {
    append_block(blocks, std::make_unique<LlamaLayer>(shape, i), done);
  }
  append_block(blocks, std::make_unique<LlamaOutput>(shape, table), done);
  return blocks;
}

}  // namespace trireme
