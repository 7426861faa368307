#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

#include "trireme/base/state_tensor.h"
#include "trireme/parallel/flat_parameters.h"
#include "trireme/parallel/gradients/group_metadata.h"
#include "trireme/parallel/rank_groups.h"
#include "trireme/tensor/watched_tensor.h"

namespace trireme {

/// A copy of the parameters and buffers that this rank's group trains, while the model shows the
/// mean of all groups to be evaluated and saved.
class OwnValues {
 public:
  /// `parameters` must outlive this object; `buffers` are kept by reference count.
  OwnValues(const FlatParameters& parameters, const std::vector<NamedTensor>& buffers);

  /// Copies the model's values.
  void keep();
  /// After the model shows the mean: notes which buffers `exchanged` has changed.
  void note(const GroupMetadata& exchanged);
  /// Gives the model its values back.
  void bring_back();

  /// True between keep() and bring_back(), and if a checkpoint of that time has been loaded.
  bool are_kept() const { return is_kept_[0] != 0; }

  /// A row for each group, which only its leader writes, and only while the values are kept.
  std::vector<StateTensor> state(const RankGroups& groups, const std::string& prefix);

 private:
  const FlatParameters& parameters_;
  at::Tensor values_;  // of the parameters, flat
  std::vector<WatchedTensor> buffers_;
  std::vector<std::int64_t> is_kept_;  // the parameters, then each buffer
};

}  // namespace trireme
