#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "trireme/comm/communicator.h"
#include "trireme/parallel/flat_parameters.h"
#include "trireme/parallel/strategy.h"

namespace trireme {

/// What groups that train apart have in common: the values w that they last agreed on, and an
/// optimizer that takes the mean way of all groups away from w for a gradient. With w_m those of
/// group m and d = mean(w - w_m):
///
///     b = momentum * b + d
///     w = w - lr * (d + momentum * b)
///
/// which is SGD with Nesterov's momentum, DiLoCo's outer optimizer (Douillard et al. 2023). With
/// lr = 1 and momentum = 0 that is the mean of the w_m; it is then taken straight from them, and
/// neither w nor b takes memory.
class OuterOptimizer {
 public:
  struct Options {
    double lr = 1;
    double momentum = 0;
    /// What this rank's values are multiplied by before the mean over the ranks of `groups`.
    double weight = 1;
  };

  /// Collective over `groups`, one rank of each group.
  OuterOptimizer(Communicator& groups, const FlatParameters& parameters, Options options);

  /// The parameters are now what all groups agree on.
  void remember();

  /// Starts an outer step for the elements of `range`. Until it is applied nothing else may start
  /// there; the parameters may change.
  Work start(Range range);
  /// Once that is done: updates w, and moves the parameters to it but for the share `kept`:
  /// kept * w_m + (1 - kept) * w.
  void apply(Range range, double kept);

  /// The same for the plain mean of all parameters, which leaves b alone.
  Work start_mean();
  void apply_mean();

  /// b, under "outer_momentum.NAME".
  std::vector<Strategy::State> state() const;

 private:
  bool averages() const { return options_.lr == 1 && options_.momentum == 0; }
  Range all() const { return {0, parameters_.size()}; }
  Buffer sent(Range range) const;
  at::Tensor sent_tensor(Range range) const;
  Work reduce(Range range);

  Communicator& groups_;
  const FlatParameters& parameters_;
  Options options_;
  Memory sent_;
  at::Tensor agreed_;    // w; undefined where nobody needs it
  at::Tensor momentum_;  // b
};

}  // namespace trireme
