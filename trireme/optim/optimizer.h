#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "trireme/base/zeroed_memory.h"
#include "trireme/kernels/optimizers.h"
#include "trireme/optim/matrix_shape.h"
#include "trireme/optim/parameter_groups.h"
#include "trireme/optim/shard.h"

namespace trireme {

/// An optimizer updates the shards of a strategy in one pass over memory: gradients of several
/// ranks are summed, cut and used block by block while they lie in the cache.
///
///     AdamW optimizer(strategy->attach(*model), {.lr = 3e-4});
///     optimizer.step();   // after strategy->reduce_gradients()
///
/// The shards must outlive the optimizer and keep their place and size; it looks up where their
/// gradients lie in every step. The new value of an element does not depend on how parameters are
/// cut into shards; optimizers for which it would (LAMB, Muon) refuse shards that are not whole
/// tensors. One thread may use an optimizer at a time.
class Optimizer {
 public:
  /// Elements that are updated at a time.
  static constexpr std::int64_t kBlock = kBlockElements;

  virtual ~Optimizer() = default;
  Optimizer(const Optimizer&) = delete;
  Optimizer& operator=(const Optimizer&) = delete;

  /// Updates every shard that has a gradient; the others keep values, state and step counter.
  void step();

  double lr() const { return rates_.lr; }
  void set_lr(double lr) { rates_.lr = lr; }

  /// Updates the parameters of each group in the group's way from the next step on; state stays as
  /// it is. The shards of a group that is not trainable keep their values. Throws UsageError for
  /// impossible values, for options that this optimizer does not have, and for another rule of a
  /// parameter that was updated before. A group that matches no shard is no error, since a rank may
  /// hold few parameters: see prepare_groups().
  void set_groups(std::span<const ParameterGroup> groups);

  /// Multiplies the gradients of the next steps by `scale`, for clipping by norm.
  void set_gradient_scale(double scale) { gradient_scale_ = scale; }
  double gradient_scale() const { return gradient_scale_; }
  /// Limits the elements of the scaled gradients to [-limit, limit]; 0 means no limit.
  void set_gradient_clip_value(double limit) { gradient_clip_value_ = limit; }

  /// Rounds f32 parameters stochastically to bf16 after each update, with random numbers that
  /// depend on the seed, the parameter, the element and the update: see
  /// kernels/stochastic_rounding.h.
  void set_stochastic_rounding(std::uint64_t seed) { rounding_seed_ = seed; }

  /// Returns all state, for checkpoints, by torch's names: "fc1.weight.step" (i64, one element, the
  /// same for every region of a parameter), "fc1.weight.exp_avg", ... The next step uses what a
  /// checkpoint has written to these values.
  std::vector<StateTensor> state();

  /// The state of one shard: `arrays` in the order of state_arrays() of the shard.
  struct ShardState {
    std::int64_t step = 0;  ///< updates of the shard
    std::vector<Buffer> arrays;
  };
  /// Returns the state of each shard, in their order.
  std::span<ShardState> shard_states() { return states_; }

  /// "adamw"
  std::string_view name() const { return name_; }

  std::span<const Shard> shards() const { return shards_; }

  /// An array of state, with one element for each value: its name and its initial elements.
  struct StateArray {
    std::string name;
    double initial = 0;
  };
  std::span<const StateArray> state_arrays() const { return state_arrays_; }
  /// Of shard number `shard`: the arrays of matrices differ in muon.
  std::span<const StateArray> state_arrays(std::size_t shard) const;

  /// Applies the rule without groups, for callers that keep values and state themselves: `state` in
  /// the order of state_arrays(), `step` counts the updates of these values from 1. Scale and limit
  /// of the gradient are those of `part`, which must be a whole tensor for optimizers that need
  /// these.
  void update(const Update& part, std::span<void* const> state, std::int64_t step) {
    apply(part, rates_with(1), state, step);
  }

 protected:
  /// The numbers of a rule that parameter groups may change.
  struct Rates {
    double lr = 0;
    std::optional<double> weight_decay = {};          ///< unset: the optimizer has none
    std::optional<std::array<double, 2>> betas = {};  ///< unset: the optimizer has none
    std::optional<MatrixShape> matrix = {};           ///< of a parameter of the rule for matrices
  };

  /// The needs of optimizers that look at more than an element: apply() gets whole tensors.
  struct WholeTensors {
    std::string reason;  ///< "the trust ratio is ..."; empty: apply() gets blocks of any shards
    std::vector<StateArray> matrix_arrays = {};  ///< if only matrices need it: their state
    std::size_t scratch_arrays = 0;              ///< see scratch()
  };

  /// Throws UsageError for values other than f32 and f64, and for shards that are not whole if they
  /// have to be.
  Optimizer(std::string_view name, std::span<Shard> shards, Rates rates,
            std::vector<StateArray> state_arrays, WholeTensors whole);
  Optimizer(std::string_view name, std::span<Shard> shards, Rates rates,
            std::vector<StateArray> state_arrays)
      : Optimizer(name, shards, rates, std::move(state_arrays), WholeTensors()) {}

  /// Array `index` of scratch_arrays, with the count and type of `values`. It belongs to the call
  /// of apply(), and begins with what the last call has left.
  Buffer scratch(std::size_t index, const Buffer& values);

 private:
  virtual void apply(const Update& part, const Rates& rates, std::span<void* const> state,
                     std::int64_t step) = 0;

  // The options of a shard, from the groups.
  struct ShardGroup {
    double lr_factor = 1;
    Rates rates;  // without lr
    bool is_trainable = true;
  };

  bool has_rule_for_matrices() const { return !whole_.matrix_arrays.empty(); }
  bool needs_whole(const ShardGroup& group) const;
  void require_options_of(std::span<const ParameterGroup> groups) const;
  void require_whole(const Shard& shard, const ShardGroup& group) const;
  std::optional<MatrixShape> matrix_of(const ParameterInfo& parameter,
                                       const ParameterGroup& group) const;
  ShardGroup options_of(const Shard& shard, std::span<const ParameterGroup> groups) const;
  void allocate_state();
  Rates rates_with(double lr_factor) const;

  void update_shard(const Shard& shard, ShardState& state, ShardGroup& group);
  void round_stochastically(const Shard& shard, std::int64_t step) const;

  std::string name_;
  std::span<Shard> shards_;
  Rates rates_;
  double gradient_scale_ = 1;
  double gradient_clip_value_ = 0;
  std::optional<std::uint64_t> rounding_seed_;
  std::vector<StateArray> state_arrays_;
  WholeTensors whole_;
  ZeroedMemory memory_;
  ZeroedMemory scratch_;              // the sum of a gradient, then the arrays of scratch()
  std::size_t bytes_of_scratch_ = 0;  // of one array
  std::vector<ShardState> states_;
  std::vector<ShardGroup> groups_;  // of each shard
};

}  // namespace trireme
