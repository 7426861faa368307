#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "trireme/base/partition.h"
#include "trireme/base/state_tensor.h"
#include "trireme/comm/communicator.h"
#include "trireme/kernels/compress.h"
#include "trireme/kernels/reduction_tree.h"
#include "trireme/optim/optimizer.h"
#include "trireme/optim/shard.h"
#include "trireme/tensor/named_tensors.h"

namespace trireme {

/// How gradients and parameters are kept in step between ranks: the four moments of a step.
///
///     auto strategy = replicated(*world);
///     AdamW optimizer(strategy->attach(*model));
///     for (...) {
///       strategy->begin();
///       loss(model->forward(x), y).backward();
///       strategy->reduce_gradients();
///       strategy->update(optimizer);
///       strategy->publish_parameters();
///     }
///
/// The gradient of a step is the mean over the step's virtual workers, each of which is one
/// backward pass. Used by the one thread that runs backward.
class Strategy {
 public:
  virtual ~Strategy() = default;

  /// Once, collective: makes every rank's parameters and buffers equal to rank 0's, moves the
  /// parameters into the strategy's memory and hooks their gradients. Parameters that do not
  /// require a gradient stay where they are. The shards returned are what this rank's optimizer
  /// updates; they live as long as the strategy, which must outlive neither the model nor the
  /// communicator.
  std::span<Shard> attach(const torch::nn::Module& model) { return attach(tensors_of(model)); }
  virtual std::span<Shard> attach(const NamedTensors& model) = 0;

  /// Before the first forward of a step in which this rank runs `backward_passes`: one for each of
  /// its virtual workers, or fewer where the last ones have no samples.
  virtual void begin(int backward_passes) = 0;
  /// One for each virtual worker of this rank.
  void begin() { begin(static_cast<int>(virtual_workers().size())); }

  /// The virtual workers of this rank: [begin, end) of those of the whole step.
  virtual Range virtual_workers() const = 0;

  /// The loss of the virtual worker whose backward comes next; optional.
  virtual void add_loss(double loss) = 0;

  /// Before its last backward of a step any rank may raise the flag, which after some
  /// publish_parameters() every rank sees, for one step, in which all are in step: how all agree to
  /// stop after the same one. Where ranks never go on alone it is the step itself, and
  /// reduce_gradients() is enough.
  virtual void raise_flag() = 0;
  virtual bool flag_raised() const = 0;

  /// After the last backward: the gradients of the shards are ready once this returns.
  virtual void reduce_gradients() = 0;

  /// The mean over the step's virtual workers of what add_loss() was told, on every rank. Of those
  /// of this rank's group in a step in which groups went on alone.
  virtual double loss() const = 0;

  /// After reduce_gradients(): makes the gradient of each shard one array, for those who want to
  /// look at it before the optimizer does, and returns the L2 norm of the whole model's gradient,
  /// with the same bits at every world size. Collective.
  virtual double gradient_norm() = 0;

  /// The optimizer's step(), or what comes in its place where servers update the parameters: they
  /// take the rate and the scale of gradients from it. On every rank.
  virtual void update(Optimizer& optimizer) { optimizer.step(); }

  /// After the update: the next forward, on any rank, sees the new parameters. Collective.
  virtual void publish_parameters() = 0;

  /// True if every rank holds all shards, false if each holds its own part.
  virtual bool shards_are_whole() const = 0;

  /// False after a step in which ranks went on alone, so that their parameters differ: what needs
  /// one model (evaluation, checkpoints) waits for a later step.
  virtual bool is_in_step() const { return true; }

  /// Before a step's publish_parameters(), on every rank: it is the last one, or one after which
  /// somebody needs one model; is_in_step() then follows.
  virtual void ask_to_be_in_step() {}

  /// The same for somebody who can wait: a strategy whose ranks come into step by themselves keeps
  /// to its own time.
  virtual void wait_to_be_in_step() {}

  /// True if ranks never wait for each other but through the strategy, so that one which is lost
  /// does not stop the others, or those of its group alone: nobody may use the world's collectives
  /// after attach() then, and evaluation and checkpoints are rank 0's alone.
  virtual bool ranks_go_alone() const { return false; }

  /// After publish_parameters(): the steps that the others have gone on without this rank, which it
  /// leaves out.
  virtual std::int64_t missed_steps() { return 0; }

  /// Where servers hold the optimizer's state: brings it into `optimizer` on rank 0, before it is
  /// written to a checkpoint; hands it and the parameters to them, after rank 0 has read one.
  virtual void collect_state(Optimizer&) {}
  virtual void spread_state(Optimizer&) {}

  /// Ranks whose optimizers hold the same state. The one that leads writes it to checkpoints; with
  /// a single group that is rank 0 or, where shards are parts, every rank.
  struct Group {
    int index = 0;
    bool leads = false;
  };
  virtual Group group() const { return {}; }

  /// What this rank has moved through communicators that the strategy made for itself, beside the
  /// one that it was given.
  virtual Traffic traffic() const { return {}; }

  using State = StateTensor;

  /// Returns the state that the strategy itself keeps between steps, for checkpoints. Must be called
  /// after attach(). What is written to the values before the next step is what that step uses; what
  /// a checkpoint does not hold may stay as it is. Together the regions that are written cover each
  /// tensor exactly once.
  virtual std::vector<State> state() { return {}; }

  /// The same of a rank that goes alone: what it remembers for itself, in a checkpoint of its own.
  virtual std::vector<State> own_state() { return {}; }
};

struct StrategyOptions {
  /// Virtual workers of a step over all ranks, at least one a rank; 0: one a rank. The sum of their
  /// gradients is taken in the order of ReductionTree, so that the same number gives the same bits
  /// on any number of ranks.
  int virtual_workers = 0;
  /// How they are dealt out: a number a rank, in proportion to which it takes them, for ranks of
  /// unequal speed; empty: evenly. Where ranks are in step the bits do not depend on it.
  std::vector<double> shares = {};
  /// Gradients are communicated in pieces of about this size, while backward goes on.
  std::int64_t bucket_bytes = std::int64_t{1} << 20;
  /// How gradients are made smaller before they travel. With a codec the bits depend on the number
  /// of ranks: each compresses the sum over its own virtual workers.
  CompressionOptions compression = {};
};

/// Which virtual workers each of `ranks` ranks has. Throws UsageError for fewer of them than ranks,
/// or shares that are not one number above 0 a rank.
ReductionTree tree_of(const StrategyOptions& options, int ranks);

/// Every rank holds all parameters and all optimizer state; gradients are all-reduced (data
/// parallelism: Li et al. 2020, "PyTorch Distributed"). After reduce_gradients() each parameter's
/// grad() is the mean, so that any optimizer will do, torch::optim's included.
std::unique_ptr<Strategy> replicated(Communicator& world, StrategyOptions options = {});

/// One copy of the parameters for all ranks of this host. Each rank sums its slice of the
/// gradients, updates its slice of the parameters and holds its slice of the optimizer state; the
/// sum is taken inside the optimizer's pass and nothing is gathered. Needs trireme's optimizers.
/// attach() throws UsageError if the ranks do not share memory. Gradients do not travel, so that
/// there is nothing to compress: UsageError for any codec but "none".
std::unique_ptr<Strategy> shared(Communicator& world, StrategyOptions options = {});

/// By name: "replicated" or "shared". Throws UsageError for others.
std::unique_ptr<Strategy> make_strategy(std::string_view name, Communicator& world,
                                        StrategyOptions options = {});

}  // namespace trireme
