#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "trireme/base/partition.h"
#include "trireme/data/dataset.h"
#include "trireme/model/block.h"
#include "trireme/model/deferred_weights.h"
#include "trireme/model/evaluation.h"
#include "trireme/model/loss.h"
#include "trireme/plan/recompute.h"
#include "trireme/tensor/named_tensors.h"

namespace trireme {

/// Selects the random numbers of a forward pass, which also depend on the block: the same key gives
/// the same numbers on every rank and each time a forward pass is computed again.
struct RandomKey {
  std::uint64_t seed = 0;
  std::int64_t step = 0;
  int virtual_worker = 0;
};

/// What the trainer trains: blocks, computed one after another.
///
///     auto model = model_of(std::make_shared<MyModule>());     // model/module_block.h
///     model->set_random_key({seed, step, virtual_worker});
///     at::Tensor output = model->forward(input);
///
/// One thread at a time.
class Model {
 public:
  /// Throws UsageError if there is no block or if two tensors have the same name.
  explicit Model(std::vector<std::unique_ptr<Block>> blocks);

  std::span<const std::unique_ptr<Block>> blocks() const { return blocks_; }

  /// input: [n, ...], n samples; returns the last block's output. `positions`: Batch::positions.
  at::Tensor forward(const at::Tensor& input, const at::Tensor& positions = {});

  /// The same of the blocks `range` alone, such as those of a pipeline stage: `input` is the output
  /// of the block before. Throws UsageError unless the range is part of the model and not empty.
  at::Tensor forward(const at::Tensor& input, Range range, const at::Tensor& positions = {});

  /// The loss of the outputs for a batch, which never exist if the last block is a LossBlock.
  LossSum loss(const Batch& batch, const Loss& loss);
  /// Its contribution to an evaluation: see Loss::evaluate().
  EvaluationSums evaluate(const Batch& batch, const Loss& loss, double shift = 0);

  /// Must be called before each forward() in training whose random numbers are to be reproducible.
  /// Before each block's forward() in training the block is seeded from the key and the block's
  /// index; without a key no block is seeded.
  void set_random_key(std::optional<RandomKey> key) { random_key_ = key; }

  /// What backward passes of the next forward passes compute again. Throws UsageError for
  /// kSelective if no block has attention.
  void set_recompute(Recompute recompute);

  /// How matrices are multiplied from now on, in training and in evaluation. Parameters stay f32.
  void set_compute(const ComputeType& compute);

  /// Frees the weights, the parameters of two and more dimensions; `values` sets those that a rank
  /// needs, one after another, when a strategy attaches the model: a model that no rank can hold
  /// is trained so (docs/sharding.md). The other parameters keep their values. Until then forward()
  /// throws UsageError.
  ///
  ///     std::vector<std::unique_ptr<Block>> blocks;
  ///     for (...) append_module(blocks, std::make_shared<MyLayer>(), prefix,
  ///                             [](const Block& block) { free_weights(block.tensors()); });
  ///     Model model(std::move(blocks));
  ///     model.defer_weights(initial_values(model.tensors(), "kaiming_normal", seed, "relu"));
  ///     strategy->attach(model);
  void defer_weights(InitialValues values);
  const DeferredWeights& deferred_weights() const { return deferred_; }
  /// For strategies, once the weights lie where they belong.
  void end_deferring() { deferred_ = {}; }

  /// `hooks` are called around each block, in the order in which they were added before it, and in
  /// the opposite order after it. They must outlive the forward passes that follow, until they are
  /// removed, and the backward passes of these.
  void add_hooks(BlockHooks& hooks) { hooks_.push_back(&hooks); }
  void remove_hooks(BlockHooks& hooks) { std::erase(hooks_, &hooks); }

  /// Calls the hooks as a forward pass without a backward pass would, and computes nothing.
  void skip_forward();

  /// The tensors of all blocks, in the order of the blocks. A tensor that layers share comes once,
  /// under its first name.
  NamedTensors tensors() const;
  /// The same, but a tensor that layers share comes once for each of its names.
  NamedTensors tensors_under_all_names() const;

  /// Chooses between training (true, as after construction) and evaluation (false).
  void train(bool on);

 private:
  class BackwardCalls;
  class Pass;

  void before_forward(int block);
  void after_forward(int block);

  std::vector<std::unique_ptr<Block>> blocks_;
  std::optional<RandomKey> random_key_;
  std::vector<BlockHooks*> hooks_;
  DeferredWeights deferred_;
  Recompute recompute_ = Recompute::kNone;
  ComputeType compute_;
  std::vector<char> computes_itself_;  // of each block: it looks at the type
  bool is_training_ = true;
};

}  // namespace trireme
