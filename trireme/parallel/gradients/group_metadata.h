#pragma once

#include <span>
#include <vector>

#include "trireme/comm/communicator.h"
#include "trireme/tensor/named_tensors.h"

namespace trireme {

/// What groups of ranks that train independently tell each other beside the parameters, in f64:
/// whether a rank of the group requests to stop, the loss, and the model's buffers, of which the
/// mean is taken.
class GroupMetadata {
 public:
  /// `buffers` are kept by reference count. There may be none.
  explicit GroupMetadata(std::vector<NamedTensor> buffers = {});

  /// Collective over one rank of each group; `weight`: the group's part in the means, 1 if all
  /// groups count the same. This object must not move until the work is done.
  Work start(Communicator& groups, bool request_stop, double loss, double weight);

  /// After that: the values that the other ranks of the group must receive.
  Buffer values() { return buffer_of(std::span<double>(values_)); }

  /// True if a rank of any group has requested to stop.
  bool stop() const { return values_[0] > 0; }
  double loss() const { return values_[1]; }
  /// Buffers become alpha * own + (1 - alpha) * mean, integers rounded.
  void apply(double alpha) const;

 private:
  std::vector<NamedTensor> buffers_;
  std::vector<double> values_;  // stop, loss, buffers
};

}  // namespace trireme
