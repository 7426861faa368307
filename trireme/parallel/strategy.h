#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "trireme/base/buffer.h"
#include "trireme/base/partition.h"
#include "trireme/base/source_location.h"
#include "trireme/base/state_tensor.h"
#include "trireme/comm/traffic.h"
#include "trireme/optim/optimizer.h"
#include "trireme/optim/shard.h"
#include "trireme/parallel/gradient_sink.h"
#include "trireme/parallel/step.h"
#include "trireme/tensor/named_tensors.h"

namespace torch::nn {
class Module;
}
namespace torch::optim {
class Optimizer;
}

namespace trireme {

class CheckedStep;
class Communicator;
class Model;
class RelaxedConsistency;

/// A strategy keeps gradients and parameters consistent between ranks. Every strategy is used in
/// the same way:
///
///     auto strategy = replicated(*world);
///     AdamW optimizer(strategy->attach(*model));
///     for (...) {
///       strategy->begin();
///       strategy->backward(loss(model->forward(x), y));
///       strategy->reduce_gradients();
///       strategy->update(optimizer);
///     }
///
/// A step runs one forward and one backward pass for each virtual worker of the rank: that
/// virtual worker's micro-batch. The gradient of a step is the sum over all virtual workers divided
/// once by the weight of the step: by default their mean.
///
/// Calls in another order throw UsageError, as do `loss.backward()` and `optimizer.step()` in place
/// of backward() and update(). begin(), backward(), reduce_gradients(), gradient_norm() and
/// update() belong to the one thread that trains; all but backward() are collective.
class Strategy {
 public:
  virtual ~Strategy();
  Strategy(const Strategy&) = delete;
  Strategy& operator=(const Strategy&) = delete;

  /// Must be called once, before anything else. Collective: makes every rank's parameters and
  /// buffers equal to rank 0's, moves the parameters into the strategy's memory and hooks their
  /// gradients; parameters that do not require a gradient stay where they are. Returns the shards
  /// that this rank's optimizer updates. They live as long as the strategy, which must outlive
  /// neither the model nor the communicator.
  std::span<Shard> attach(Model& model, SourceLocation where = SourceLocation::current());
  /// The same for an ordinary module, which is one block; each child of a Sequential is a block.
  std::span<Shard> attach(torch::nn::Module& module,
                          SourceLocation where = SourceLocation::current());

  /// What attach() was given and has returned. Throw UsageError before attach().
  Model& model() const;
  std::span<Shard> shards() const;
  /// The tensors of the model that no optimizer updates: buffers, and the parameters that did not
  /// require a gradient in attach(). Throws UsageError before attach().
  std::vector<NamedTensor> fixed_tensors() const;

  /// Must be called before the first forward pass of a step. Returns where gradients go that do not
  /// come through backward().
  GradientSink& begin(StepShape shape = {}, SourceLocation where = SourceLocation::current());

  /// Runs the backward pass of the next micro-batch and ends that micro-batch. `loss_sum`: a
  /// scalar, the sum of its losses; or their mean if begin() was given no weight.
  void backward(const at::Tensor& loss_sum, SourceLocation where = SourceLocation::current());

  /// Must be called after the last backward pass of a step. Micro-batches that did not come count
  /// as zero. The gradients of the shards are ready once this returns.
  GradientReport reduce_gradients(SourceLocation where = SourceLocation::current());

  /// After reduce_gradients(): makes the gradient of each shard one array, which the caller may
  /// read until the next begin(), and returns the L2 norm of the whole model's gradient, with the
  /// same bits at every world size.
  double gradient_norm(SourceLocation where = SourceLocation::current());

  /// Updates the parameters and publishes them: the next forward pass on any rank uses the new
  /// ones. If servers update the parameters, they take the learning rate and the gradient scale
  /// from `optimizer`, which must be of shards of attach(). Throws DivergedError, and leaves the
  /// parameters as they are, if the report of the step says that not all is finite.
  StepResult update(Optimizer& optimizer, Sync sync = Sync::kWhenDue,
                    SourceLocation where = SourceLocation::current());
  /// The same with an optimizer of libtorch, for strategies that set grad(). Throws UsageError for
  /// others.
  StepResult update(torch::optim::Optimizer& optimizer, Sync sync = Sync::kWhenDue,
                    SourceLocation where = SourceLocation::current());

  /// In place of update(), on every rank, or group of ranks: the step counts, and ranks exchange
  /// what they exchange in every step, but its gradients are not used. Parameters, buffers and the
  /// state of optimizer and compression stay as they are.
  StepResult skip_update(Optimizer& optimizer, Sync sync = Sync::kWhenDue,
                         SourceLocation where = SourceLocation::current());
  StepResult skip_update(torch::optim::Optimizer& optimizer, Sync sync = Sync::kWhenDue,
                         SourceLocation where = SourceLocation::current());

  /// Ends a step as if it had not begun, on every rank, after an exception for instance. The
  /// parameters stay as they are. Does nothing if no step has begun. Collective if
  /// reduce_gradients() was not called yet.
  void abandon_step(SourceLocation where = SourceLocation::current());

  /// True if every rank has all shards, false if each rank has its own part of them.
  bool shards_are_whole() const { return traits_.whole_shards; }
  /// True if the model's parameters have their values between steps on this rank, false if only the
  /// shards have them.
  bool holds_parameters() const { return traits_.holds_parameters; }

  /// The trained parameters as this rank must read them from a checkpoint: its shards, or all that
  /// it holds a copy of.
  std::vector<StateTensor> parameters_to_load() const;

  /// What this rank has sent through communicators of the strategy's own, beside that which it was
  /// made for.
  Traffic traffic() const;

  /// The virtual workers of this rank: [begin, end) of those of the whole step. Known before
  /// attach(), too.
  virtual Range virtual_workers() const = 0;

  using State = StateTensor;

  /// Returns the state that the strategy itself keeps between steps, for checkpoints. Must be
  /// called after attach(). What is written to the values before the next step is what that step
  /// uses; what a checkpoint does not hold may stay as it is. Together the regions that are written
  /// cover each tensor exactly once.
  std::vector<State> state();

  /// What only strategies have whose ranks' parameters may differ or whose state lies on servers;
  /// null for others.
  virtual RelaxedConsistency* relaxed() { return nullptr; }

 protected:
  struct Traits {
    std::string name;           ///< for messages
    bool sets_grad = false;     ///< finish_gradients() leaves the gradients in grad()
    bool whole_shards = false;  ///< every rank has all shards
    /// Each rank has memory of its own for all parameters, though not for all shards.
    bool copies_parameters = false;
    bool holds_parameters = true;  ///< see holds_parameters()
  };
  explicit Strategy(Traits traits);

  /// For what is known in attach_model() only.
  void set_copies_parameters() { traits_.copies_parameters = true; }
  void set_holds_no_parameters();
  /// Counts a communicator in traffic(), which must live as long as the strategy.
  void add_traffic_of(const Communicator& ranks) { own_communicators_.push_back(&ranks); }

  /// For what a strategy has beside the functions above: throw UsageError unless attach() was
  /// called, or unless no step has begun that has not ended.
  void require_attached(const char* call) const;
  void require_between_steps(const char* call) const;

  /// How a step ends.
  struct StepEnd {
    Optimizer* optimizer = nullptr;  ///< null: one of libtorch, which is not to be stepped here
    bool is_skipped = false;         ///< nothing is to be updated
    Sync sync = Sync::kWhenDue;
  };

 private:
  // What a strategy implements; the public functions have checked the order of calls.
  virtual std::span<Shard> attach_model(Model& model) = 0;
  // `shape`: passes is the number of micro-batches of this rank, weight may still be 0. The sink
  // gets each parameter's micro-batches in ascending order.
  virtual GradientSink& begin_step(const StepShape& shape) = 0;
  virtual GradientReport finish_gradients() = 0;
  virtual double compute_gradient_norm() = 0;
  // Steps the optimizer, unless the step is skipped, and publishes the parameters.
  virtual StepResult finish_step(const StepEnd& end) = 0;
  virtual std::vector<State> own_state() { return {}; }
  StepResult finish(const StepEnd& end);
  void end_exchange();
  void require_sets_grad(const char* call) const;
  void require_own(const char* call, const Optimizer& optimizer) const;

  Traits traits_;
  std::unique_ptr<Model> model_of_module_;
  Model* model_ = nullptr;   // null: not attached
  std::span<Shard> shards_;  // what attach() has returned
  std::vector<const Communicator*> own_communicators_;
  std::unique_ptr<CheckedStep> step_;
};

}  // namespace trireme
