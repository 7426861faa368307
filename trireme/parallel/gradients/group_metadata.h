#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <vector>

#include "trireme/comm/communicator.h"
#include "trireme/parallel/rank_groups.h"
#include "trireme/parallel/strategy_options.h"
#include "trireme/tensor/watched_tensor.h"

namespace trireme {

/// What groups of ranks that train independently tell each other beside the parameters, in f64:
/// whether a rank of the group requests to stop, the loss, and the model's buffers. Of a buffer
/// that any group has changed since the last exchange the mean is taken, or group 0's values (bool,
/// BufferUpdate::kFirst); others keep their bits.
class GroupMetadata {
 public:
  /// `buffers` are kept by reference count. There may be none.
  explicit GroupMetadata(const std::vector<NamedTensor>& buffers = {},
                         BufferUpdate update = BufferUpdate::kMean);

  /// Counts changes from here on; must be called before the first step.
  void begin();

  /// Collective over the leaders of the groups, which call it. This object must not move until the
  /// work is done.
  Work start(const RankGroups& groups, bool request_stop, double loss);

  /// Collective over all ranks, after that work: brings what the leader has received to the rest
  /// of its group. Buffers become alpha * own + (1 - alpha) * mean, integers rounded.
  void finish(const RankGroups& groups, double alpha);

  /// True if a rank of any group has requested to stop.
  bool stop() const { return values_[0] > 0; }
  double loss() const { return values_[1]; }

 private:
  struct Tracked {
    WatchedTensor watched;
    bool first_only = false;   // takes the values of group 0
    bool is_included = false;  // in values_: has changed before
    at::Tensor sent;           // the values at start()
  };

  at::Tensor received(const RankGroups& groups, Tracked& tracked, const double* in_values) const;
  void resize_values();

  std::vector<Tracked> buffers_;
  std::vector<double> values_;  // stop, loss, changes of each buffer, those that are included
};

}  // namespace trireme
