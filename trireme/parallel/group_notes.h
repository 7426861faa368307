#pragma once

#include <vector>

#include "trireme/comm/communicator.h"
#include "trireme/tensor/named_tensors.h"

namespace trireme {

/// What groups that train apart tell each other beside the parameters: whether a flag is up, the
/// loss, and the buffers of the model, of which the mean is taken. In f64.
class GroupNotes {
 public:
  /// `buffers` are kept by reference count. They may be none.
  explicit GroupNotes(std::vector<NamedTensor> buffers = {});

  /// Collective over one rank of each group, which counts `weight` times in the means. Until it is
  /// done this object stays where it is.
  Work start(Communicator& groups, bool flag, double loss, double weight);

  /// After that: what the other ranks of the group are told.
  Buffer values() { return buffer_of(std::span<double>(values_)); }

  /// True if a group's flag was up.
  bool flag() const { return values_[0] > 0; }
  double loss() const { return values_[1]; }
  /// Buffers become kept * own + (1 - kept) * mean, integers rounded.
  void apply(double kept) const;

 private:
  std::vector<NamedTensor> buffers_;
  std::vector<double> values_;  // flag, loss, buffers
};

}  // namespace trireme
