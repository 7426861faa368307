#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "trireme/comm/communicator.h"
#include "trireme/kernels/compress.h"
#include "trireme/parallel/compressed_sum.h"
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
/// neither w nor b takes memory. With a codec it is w - w_m that travels, each group with error
/// feedback.
class OuterOptimizer {
 public:
  struct Options {
    double lr = 1;
    double momentum = 0;
    /// What this rank's values are multiplied by before the mean over the ranks of `groups`.
    double weight = 1;
    CompressionOptions compression = {};
  };

  /// Collective over `groups`, one rank of each group. The parameters are cut into `fragments`,
  /// each of which goes its own way.
  OuterOptimizer(Communicator& groups, const FlatParameters& parameters,
                 std::vector<Range> fragments, Options options);

  /// The parameters are now what all groups agree on.
  void remember();

  /// Starts an outer step for a fragment, after `step` steps. Until it is applied nothing else may
  /// start there; the parameters may change.
  Work start(std::size_t fragment, std::int64_t step);
  /// Once that is done: updates w, and moves the parameters to it but for the share `kept`:
  /// kept * w_m + (1 - kept) * w.
  void apply(std::size_t fragment, double kept);

  /// The same for the plain mean of all parameters, uncompressed, which leaves b alone.
  Work start_mean();
  void apply_mean();

  /// b, the same on all, and what a codec has left out, each its own.
  std::vector<Strategy::State> state();

 private:
  bool compresses() const { return !compressed_.empty(); }
  Range all() const { return {0, parameters_.size()}; }
  Buffer sent(Range range) const;
  at::Tensor sent_tensor(Range range) const;
  std::vector<Buffer> sent_parts(std::size_t fragment) const;
  void weigh(Range range);

  Communicator& groups_;
  const FlatParameters& parameters_;
  std::vector<Range> fragments_;
  Options options_;
  Memory sent_;
  std::vector<CompressedSum> compressed_;  // of each fragment
  at::Tensor agreed_;                      // w; undefined where nobody needs it
  at::Tensor momentum_;                    // b
};

}  // namespace trireme
