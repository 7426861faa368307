#pragma once

#include <string>
#include <vector>

#include "trireme/comm/communicator.h"
#include "trireme/optim/optimizer.h"
#include "trireme/parallel/strategy.h"

namespace trireme {

/// What only strategies have whose ranks' parameters may differ, or whose optimizer state lies on
/// servers: Strategy::relaxed(). Only asynchronous() and traffic() may be
/// called before attach(), and synchronize() only between two steps; else UsageError is thrown.
class RelaxedConsistency {
 public:
  virtual ~RelaxedConsistency() = default;

  /// True if ranks, or groups of ranks, never block on each other and survive each other's failure.
  /// The caller must then not call collectives on the world after attach(); rank 0 evaluates and
  /// saves alone.
  virtual bool asynchronous() const = 0;

  /// Makes the parameters of all ranks equal outside of a step, as update() does with Sync::kNow:
  /// for a rank that skips the last step. Collective unless asynchronous().
  virtual void synchronize() = 0;

  /// Tells the other ranks that this one ends because of an error, `why`, if they would otherwise
  /// go on without it as without one that was killed. Their calls then end in CommError.
  virtual void report_failure(const std::string& /*why*/) {}

  /// Ranks whose optimizers have the same state. The leader writes it to checkpoints.
  struct Group {
    int index = 0;
    bool leads = false;
  };
  virtual Group group() const = 0;

  /// The ranks that make each step together, and so have the same GradientReport.
  virtual Communicator& step_ranks() = 0;

  /// If servers hold the optimizer's state: reads it into `optimizer` on rank 0. Must be called
  /// before the optimizer is saved.
  virtual void gather_state(Optimizer& /*optimizer*/) {}
  /// The reverse: gives the servers the state of `optimizer` and the parameters of rank 0. Must be
  /// called after a checkpoint was loaded.
  virtual void scatter_state(Optimizer& /*optimizer*/) {}

  /// State that only this rank has, which it saves in a checkpoint of its own. Empty if
  /// Strategy::state() is all there is.
  virtual std::vector<Strategy::State> local_state() { return {}; }

  /// Bytes moved through communicators that the strategy has made; those of the communicator that
  /// it was given are not included.
  virtual Traffic traffic() const = 0;
};

}  // namespace trireme
