#pragma once

#include <cstdint>

#include "trireme/model/init.h"
#include "trireme/model/layers.h"

namespace trireme {

/// The sizes of a transformer that predicts the next token.
struct GptShape {
  std::int64_t vocabulary = 0;
  std::int64_t context = 0;  ///< the most tokens of a sample
  std::int64_t layers = 0;
  std::int64_t width = 0;
  std::int64_t heads = 0;
  std::int64_t kv_heads = 0;   ///< of keys and values, a divisor of heads; gpt2: heads
  std::int64_t mlp_width = 0;  ///< of the hidden layer of each block
  double norm_eps = 1e-5;
  double rope_theta = 10000;  ///< llama
  bool tied = true;           ///< the output layer is the embedding
  double dropout = 0;         ///< of embeddings, attention and the outputs of layers

  std::int64_t head_width() const { return width / heads; }
};

/// GPT-2 (Radford et al. 2019): learned positions, layer normalization before each layer, GELU with
/// tanh. A block each: the embedding, the layers, the output. Tensors have the names and shapes of
/// Hugging Face's GPT2Model: "wte.weight", "wpe.weight", "h.0.ln_1.weight",
/// "h.0.attn.c_attn.weight" [width, 3 width], ...; an output layer that is not tied is
/// "lm_head.weight" [vocabulary, width]. The last block is a LossBlock.
///
/// Input: tokens [n, length] of i64, length <= context; output: logits [n, length, vocabulary].
/// Throws UsageError for sizes that do not fit each other.
Blocks gpt2_blocks(const GptShape& shape, const BlockDone& done = {});

/// Llama (Touvron et al. 2023): rotary positions, RMS normalization, SwiGLU, grouped-query
/// attention. Names and shapes of Hugging Face's LlamaForCausalLM: "model.embed_tokens.weight",
/// "model.layers.0.self_attn.q_proj.weight" [width, width], ..., "lm_head.weight".
Blocks llama_blocks(const GptShape& shape, const BlockDone& done = {});

/// The initial values of either, which depend on `seed` and the parameter's name alone: N(0, 0.02),
/// and N(0, 0.02 / sqrt(2 layers)) for the two outputs of a layer that are added to its input
/// (GPT-2); biases 0, scales of norms 1.
InitialValues gpt_initial_values(std::int64_t layers, std::uint64_t seed);

/// Floating-point operations of the matrix products of one token in training, forward and backward:
/// 6 for each weight of a product and 12 * layers * width * length for attention (Chowdhery et al.
/// 2022, appendix B), where `length` tokens see on average half of them, counted in full.
double training_flops_of_token(const GptShape& shape, bool is_llama);

}  // namespace trireme
