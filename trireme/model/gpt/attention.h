#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "trireme/kernels/dropout.h"
#include "trireme/model/products.h"

namespace trireme {

struct AttentionOptions {
  std::int64_t heads = 1;
  std::int64_t kv_heads = 1;  ///< of keys and values, a divisor of heads (Ainslie et al. 2023)
  std::int64_t head_width = 0;
  /// Keep only the input for the backward pass, which then computes the probabilities again.
  bool recompute = false;
  Dropout dropout = {};  ///< of the probabilities
  /// Operands that are rounded are multiplied in f32 all the same, and kept in 16 bits.
  ComputeType compute = {};
};

/// Causal self-attention, softmax(q k^T / sqrt(head_width)) v for each head (Vaswani et al. 2017).
/// A token attends to itself and to those before it in its document.
///
/// packed: [n, length, (heads + 2 kv_heads) * head_width]: the queries of all heads, the keys, the
/// values. positions: [n, length] i64, the place of each token in its document, or undefined if
/// each sample is one document. Returns [n, length, heads * head_width].
///
/// Keeps `packed` for the backward pass and, unless they are computed again, the probabilities,
/// [n, heads, length, length]; there is no mask. Each head of a sample is computed by one thread,
/// in products whose shapes depend on nothing else. Throws UsageError for other shapes and types.
at::Tensor attention(const at::Tensor& packed, const at::Tensor& positions,
                     const AttentionOptions& options);

/// The same for tokens that follow others, without gradients: `packed`, [n, count, ...], is written
/// into rows [read, read + count) of `cache`, [n, capacity, ...], whose first `read` rows are those
/// of the tokens before, all of one document.
at::Tensor attention_of_next(const at::Tensor& packed, at::Tensor& cache, std::int64_t read,
                             const AttentionOptions& options);

/// Packs queries [n, length, heads * head_width], keys and values for attention(), queries and keys
/// rotated by their positions (Rotary). Keeps none of its inputs.
at::Tensor pack_rotated(const at::Tensor& queries, const at::Tensor& keys, const at::Tensor& values,
                        const at::Tensor& positions, const AttentionOptions& options, double theta);

}  // namespace trireme
