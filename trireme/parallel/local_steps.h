#pragma once

#include <memory>

#include "trireme/comm/communicator.h"
#include "trireme/parallel/strategy.h"
#include "trireme/parallel/strategy_options.h"

namespace trireme {

struct LocalStepsOptions {
  /// Virtual workers of a step of the whole world, bucket_bytes inside a group, and compression of
  /// what groups send each other.
  StrategyOptions world = {};
  /// This many consecutive ranks are a group, which is synchronous inside, as with replicated(); 1:
  /// each rank is a group, 0: the ranks that share memory are one.
  int group_size = 1;
  /// H: steps between two times that a parameter is sent.
  int steps = 16;
  double outer_lr = 1;
  double outer_momentum = 0;
  /// The parameters are cut into this many fragments of equal size, the f-th of which is sent after
  /// the steps H * f / fragments + k * H.
  int fragments = 1;
  /// tau of the paper: steps that overlap with the transfer of a fragment; less than `steps`.
  int delay = 0;
  /// alpha of the paper: the part of its own values that a group keeps when a fragment arrives
  /// `delay` steps later.
  double mix = 0.5;
};

/// Groups of ranks that train independently, each with an optimizer of its own, and communicate
/// every H steps. With w the last values that all groups have agreed on and w_m those of group m:
///
/// - local SGD (Stich 2019; Lin et al. 2020), outer_lr = 1, outer_momentum = 0: w = mean(w_m).
/// - DiLoCo (Douillard et al. 2023, algorithm 1), outer_lr = 0.7, outer_momentum = 0.9: the change
///   d = mean(w - w_m) is the gradient of an outer SGD with Nesterov momentum,
///   b = outer_momentum * b + d, w = w - outer_lr * (d + outer_momentum * b).
///   In either case every group then continues from w_m = w.
/// - streaming DiLoCo (Douillard et al. 2025, algorithm 2), fragments > 1 or delay > 0 and mix > 0:
///   the same for one fragment at a time; it is sent at step t, and at step t + delay, when d has
///   arrived, w_m = mix * w_m + (1 - mix) * w.
///
/// The weight of a group in means is its number of virtual workers, so that local SGD with H = 1
/// and plain SGD is synchronous SGD. Only the first rank of a group communicates with other groups.
///
/// A step's gradient, its norm and its loss are those of the group; the loss that update() returns
/// is the mean over all groups if all parameters were synchronized in this step without delay.
/// Buffers of the model become the mean of the groups' together with the first fragment. Ranks are
/// synchronized after a step in which all parameters were averaged; in the streaming form only with
/// Sync::kIfFree or Sync::kNow. An extra synchronization takes the plain mean of the w_m. It
/// becomes w and does not change b; in the streaming form the model only shows it until the next
/// begin(), and what is under way stays so. A request to stop is sent with the next fragment; the
/// ranks synchronize when it arrives.
///
/// Optimizers keep their state, each group its own. Throws UsageError for impossible options.
std::unique_ptr<Strategy> local_steps(Communicator& world, LocalStepsOptions options);

}  // namespace trireme
