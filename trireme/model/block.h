#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "trireme/model/products.h"
#include "trireme/tensor/named_tensors.h"

namespace trireme {

/// One unit of a model: of gathering parameters, cutting pipeline stages, recomputation, memory
/// accounting and timing. The output of a block is the input of the next one.
///
/// One thread at a time.
class Block {
 public:
  virtual ~Block() = default;

  /// input: [n, ...], n samples. Returns [n, ...].
  virtual at::Tensor forward(const at::Tensor& input) = 0;

  /// The tensors that forward() uses, not copies. Their names are unique in the whole model. A
  /// strategy may give each parameter other memory of the same shape and type with set_data(),
  /// before any step; forward() then uses that memory.
  virtual NamedTensors tensors() const = 0;

  /// Chooses between training (true) and evaluation (false), where dropout does nothing and batch
  /// normalization uses its running statistics.
  virtual void train(bool on) = 0;

  /// Sets the seed of the random numbers that the next forward() draws. By default this seeds
  /// libtorch's generator, which all threads of the process share.
  virtual void seed(std::uint64_t seed);

  /// Tells a block of a model of tokens where they stand in their documents: Batch::positions of
  /// the samples that the next forward() computes.
  virtual void set_positions(const at::Tensor& /*positions*/) {}

  /// From now on, in evaluation and without gradients, forward() is given tokens that follow those
  /// of the calls before, and keeps what it needs of at most `tokens` tokens; 0: no more. Blocks
  /// that look at one token at a time need not do anything.
  virtual void remember(std::int64_t /*tokens*/) {}

  /// Chooses whether the probabilities of attention are kept for the backward pass (false, as after
  /// construction) or computed again. Returns false if the block has no attention.
  virtual bool recompute_attention(bool /*on*/) { return false; }

  /// Chooses how the block multiplies matrices. Returns false if it does not look at this: then
  /// Model computes the block in libtorch's autocast if the type is native, and in f32 if not.
  virtual bool set_compute(const ComputeType& /*compute*/) { return false; }
};

/// Is called with each block of a model as soon as it is made, before the next one is.
using BlockDone = std::function<void(const Block& block)>;

/// Appends a block to those of a model.
inline void append_block(std::vector<std::unique_ptr<Block>>& blocks, std::unique_ptr<Block> block,
                         const BlockDone& done = {}) {
  blocks.push_back(std::move(block));
  if (done) done(*blocks.back());
}

/// What a strategy wants to do around each block, such as gathering its parameters before they are
/// used and freeing them afterwards. `block` is an index into Model::blocks(). Every function runs
/// on the thread that calls forward() or the backward pass.
///
/// Around a forward pass of blocks 0 and 1 and its backward pass the calls are, in order:
///
///     before_forward(0) after_forward(0) before_forward(1) after_forward(1)
///     before_backward(1) after_backward(1) before_backward(0) after_backward(0)
class BlockHooks {
 public:
  virtual ~BlockHooks() = default;

  virtual void before_forward(int /*block*/) {}
  virtual void after_forward(int /*block*/) {}

  /// Called before the gradient of the block's output is used. Not called for a block whose output
  /// requires no gradient.
  virtual void before_backward(int /*block*/) {}

  /// Called after before_backward() of the same block, once all gradients of the block are
  /// computed: its parameters' and its input's. The call comes at the end of the backward pass if
  /// the block's input requires no gradient.
  virtual void after_backward(int /*block*/) {}
};

}  // namespace trireme
