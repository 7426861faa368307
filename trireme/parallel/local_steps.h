#pragma once

#include <memory>

#include "trireme/comm/communicator.h"
#include "trireme/parallel/strategy.h"

namespace trireme {

struct LocalStepsOptions {
  /// Virtual workers of a step of the whole world, bucket_bytes inside a group, and compression of
  /// what groups send each other in their turn.
  StrategyOptions world = {};
  /// So many ranks in a row are a group, which stays in step as with replicated(); 1: each rank
  /// alone, 0: the ranks that share memory.
  int group_size = 1;
  /// H: steps between two times that a parameter is sent.
  int steps = 16;
  double outer_lr = 1;
  double outer_momentum = 0;
  /// The parameters are cut into so many pieces of equal size, the f-th of which is sent after the
  /// steps H * f / fragments + k * H.
  int fragments = 1;
  /// Steps that go on while a fragment is under way; less than `steps`.
  int delay = 0;
  /// Of a fragment that comes late: the share that a group keeps of its own values.
  double mix = 0.5;
};

/// Groups of ranks that train apart, each with an optimizer of its own, and come together every H
/// steps. With w the values that they last agreed on and w_m those of group m:
///
/// - local SGD (Stich 2019; Lin et al. 2020), outer_lr = 1, outer_momentum = 0: w = mean(w_m).
/// - DiLoCo (Douillard et al. 2023, algorithm 1), outer_lr = 0.7, outer_momentum = 0.9: the change
///   d = mean(w - w_m) is the gradient of an outer SGD with Nesterov's momentum,
///   b = outer_momentum * b + d, w = w - outer_lr * (d + outer_momentum * b).
///   In either every group then goes on from w_m = w.
/// - streaming DiLoCo (Douillard et al. 2025, algorithm 2), fragments > 1 or delay > 0: so for each
///   fragment in its turn; it is sent at step t, and at step t + delay, when d has come,
///   w_m = mix * w_m + (1 - mix) * w. The paper calls delay tau and mix alpha, and takes 0.5.
///
/// Groups count in means as their virtual workers do, so that local SGD with H = 1 and plain SGD is
/// synchronous SGD. Only the first rank of a group talks with other groups.
///
/// A step's gradient, its norm and loss() are the group's own; after the publish_parameters() of a
/// step in which all parameters came together without delay, loss() is the mean over all groups.
/// Buffers of the model become the mean of the groups' with the first fragment. Ranks are in step
/// where all parameters have come together; in the streaming form only if that is asked for or
/// waited for. Out of turn it is done by the plain mean of the w_m, which becomes w and leaves b
/// alone. A flag travels with the next fragment, and brings the ranks in step.
///
/// Optimizers keep their state through all that, each group its own. Throws UsageError for
/// impossible options.
std::unique_ptr<Strategy> local_steps(Communicator& world, LocalStepsOptions options);

}  // namespace trireme
