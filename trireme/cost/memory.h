#pragma once

#include <cstdint>
#include <string_view>

namespace trireme::cost {

// What a rank of a training step holds, in elements: parameters, gradients and optimizer state as
// Rajbhandari et al. 2020 (ZeRO) count them, activations as Korthikanti et al. 2022
// (arXiv:2205.05198) do.

/// Arrays as large as the parameters that an optimizer keeps: 2 for adam. For muon, those of a
/// hidden matrix; its other parameters have those of adamw. `optimizer`: a name of
/// optimizer_names(), 0 for others; `momentum` is above 0; `centered` is that of rmsprop.
int state_arrays(std::string_view optimizer, bool momentum, bool centered);

/// Elements of a rank of `ranks` for `parameters` trained parameters and `state` elements of
/// optimizer state. A micro-batch a rank: more of them need `rows` rows of gradients to be summed
/// in tree order (RowProgram).
struct ModelStates {
  std::int64_t parameters = 0;
  std::int64_t gradients = 0;
  std::int64_t optimizer_state = 0;
};
/// Every rank has all of it: 16 bytes a parameter with adam in f32.
ModelStates replicated_states(std::int64_t parameters, std::int64_t state, int rows);
/// A host has one copy of parameters and state, of which a rank counts its part, rounded up:
/// 4 + 12 / ranks bytes a parameter with adam in f32.
ModelStates host_shared_states(std::int64_t parameters, std::int64_t state, int rows, int ranks);

/// ZeRO in stage 1, 2 or 3: the optimizer's state, from stage 2 on the gradients, and in stage 3
/// the parameters are divided by the ranks, rounded up. With adam in f32 and one micro-batch a rank
/// 8 + 8 / ranks, 4 + 12 / ranks and 16 / ranks bytes a parameter. With more than one row, these
/// come on top of the divided gradients.
ModelStates sharded_states(std::int64_t parameters, std::int64_t state, int rows, int ranks,
                           int stage);

/// A layer of a transformer and its micro-batch, with the letters of the formulas.
struct TransformerLayer {
  std::int64_t samples = 0;    ///< b
  std::int64_t length = 0;     ///< s, tokens of a sample
  std::int64_t width = 0;      ///< h
  std::int64_t heads = 0;      ///< a
  std::int64_t kv_width = 0;   ///< k: of the keys, and of the values, of all heads
  std::int64_t mlp_width = 0;  ///< m
};

/// What a layer keeps between its forward and its backward pass, for an implementation that keeps
/// each tensor once and only what a gradient needs: bytes for each element of some kind.
struct LayerActivations {
  std::int64_t per_hidden = 0;       ///< of s b h
  std::int64_t per_kv = 0;           ///< of s b k
  std::int64_t per_mlp = 0;          ///< of s b m
  std::int64_t per_probability = 0;  ///< of a s^2 b
};

std::int64_t bytes_of(const LayerActivations& kept, const TransformerLayer& layer);

/// GPT-2, with elements of `stored` bytes and operands of matrix products of `operand` bytes.
/// Stored: the inputs of the two norms, and that of the GELU, m wide. Operands: the inputs of the
/// products for q, k and v, after attention and before the GELU, one each; q, k and v; the input of
/// the last product, m wide; the probabilities of attention.
///
/// With m = 4h in f32 these are s b h (64 + 4 a s / h) bytes. The s b h (34 + 5 a s / h) of
/// Korthikanti et al. differ: elements of 16 bits, and masks of dropout, which here are computed
/// again from their seed.
LayerActivations gpt2_activations(std::int64_t stored, std::int64_t operand);

/// Llama. Stored: the inputs of the two norms, gate and up. Operands: the inputs of the products,
/// each once; q, k and v; the probabilities.
LayerActivations llama_activations(std::int64_t stored, std::int64_t operand);

/// Selective recomputation keeps no probabilities.
LayerActivations selective(LayerActivations kept);

/// Full recomputation keeps the input of a layer.
LayerActivations input_alone(std::int64_t stored);

}  // namespace trireme::cost
