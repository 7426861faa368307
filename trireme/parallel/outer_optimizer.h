#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <cstdint>
#include <vector>

#include "trireme/comm/communicator.h"
#include "trireme/kernels/compress.h"
#include "trireme/parallel/compressed_sum.h"
#include "trireme/parallel/flat_parameters.h"
#include "trireme/parallel/strategy.h"

namespace trireme {

/// The state that groups which train independently have in common: the last values w that they have
/// agreed on, and an optimizer whose gradient is the average displacement of the groups from w.
/// With w_m the values of group m and d = mean(w - w_m):
///
///     b = momentum * b + d
///     w = w - lr * (d + momentum * b)
///
/// which is SGD with Nesterov's momentum, DiLoCo's outer optimizer (Douillard et al. 2023). With
/// lr = 1 and momentum = 0 the result is the mean of the w_m; it is then computed from them, and
/// neither w nor b takes memory. With a codec w - w_m is sent, each group with error feedback.
class OuterOptimizer {
 public:
  struct Options {
    double lr = 1;
    double momentum = 0;
    /// What this rank's values are multiplied by before the mean over the ranks of `groups`.
    double weight = 1;
    /// The parameters of a checkpoint may be others than w, which is then part of state().
    bool saves_agreed = false;
    CompressionOptions compression = {};
  };

  /// Collective over `groups`, one rank of each group. The parameters are cut into `fragments`,
  /// each of which is updated by itself.
  OuterOptimizer(Communicator& groups, const FlatParameters& parameters,
                 std::vector<Range> fragments, Options options);

  /// Copies the parameters, which all groups agree on, to w.
  void snapshot();
  /// True if w has been copied or loaded from a checkpoint.
  bool has_agreed() const { return !agreed_.defined() || has_agreed_ != 0; }

  /// Starts an outer step for a fragment, after `step` steps. Nothing else may be started for this
  /// fragment until it is applied; the parameters may change.
  Work start(std::size_t fragment, std::int64_t step);
  /// After that work, collective: decodes what has come, and keeps it until it is applied.
  void finish(std::size_t fragment);
  /// After finish(): updates w, and sets the parameters to alpha * w_m + (1 - alpha) * w.
  void apply(std::size_t fragment, double alpha);

  /// Collective: sets the parameters of a fragment to the plain mean of the w_m, uncompressed, and
  /// changes nothing else. `keeps_finished`: the fragment is finished and not applied.
  void average(std::size_t fragment, bool keeps_finished);

  /// w if it is saved and b, the same on all ranks, and the residuals of compression, different on
  /// each.
  std::vector<Strategy::State> state();
  /// What is finished and not applied.
  Buffer finished() const { return sent(all()); }

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
  at::Tensor agreed_;                      // w; undefined if not needed
  std::int64_t has_agreed_ = 0;
  at::Tensor momentum_;  // b
};

}  // namespace trireme
