#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "trireme/base/state_tensor.h"
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

  /// Counts changes from here on, beside those that note_changes() or a checkpoint has noted. Must
  /// be called before the first step, and after the buffers have got back other values.
  void begin();

  /// Collective over the leaders of the groups, which call it. This object must not move until the
  /// work is done.
  Work start(const RankGroups& groups, bool request_stop, double loss);

  /// Collective over all ranks, after that work: brings what the leader has received to the rest
  /// of its group.
  void receive(const RankGroups& groups);
  /// After receive(): buffers become alpha * own + (1 - alpha) * mean, integers rounded.
  void apply(double alpha);

  /// Notes for state() and begin() what has changed and what has been received and not applied.
  void note_changes();
  /// What begin() takes over: what has been noted, as a row of each group, and the values that have
  /// been received, which are written if they have.
  std::vector<StateTensor> state(const RankGroups& groups, const std::string& prefix);

  /// True if a rank of any group has requested to stop.
  bool stop() const { return values_[0] > 0; }
  double loss() const { return values_[1]; }
  /// True if any group had changed buffer b.
  bool has_changed(std::size_t b) const { return values_[kChanges + b] != 0; }

 private:
  static constexpr std::size_t kChanges = 2;  // after stop and loss

  // What a checkpoint holds of a buffer.
  struct Notes {
    std::int64_t is_included = 0, has_changed = 0, has_arrived = 0;
  };

  struct Tracked {
    WatchedTensor watched;
    bool first_only = false;   // takes the values of group 0
    bool is_included = false;  // in values_: has changed before
    bool has_changed = false;  // before watched was told to remember
    at::Tensor sent;           // the values at start()
    at::Tensor arrived;        // what receive() has brought
    at::Tensor loaded;         // memory for the same from a checkpoint

    bool changed() const { return has_changed || watched.has_changed(); }
  };

  at::Tensor received(const RankGroups& groups, Tracked& tracked, const double* in_values) const;
  static at::Tensor memory_for_arrived(const Tracked& tracked);
  void resize_values();

  std::vector<Tracked> buffers_;
  std::vector<Notes> notes_;    // of each buffer
  std::vector<double> values_;  // stop, loss, changes of each buffer, those that are included
};

}  // namespace trireme
