#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "trireme/train/trainer.h"

namespace trireme {

/// A copy in memory of all that a trainer's steps change: parameters, buffers, the state of
/// optimizer and strategy, the loss scale, the position in the data.
///
///     StateSnapshot before(trainer);
///     trainer.step();
///     before.restore();   // as if that step had never been
///
/// Holds the bytes that this rank would read of a checkpoint: its own shards where each rank has
/// its part, its copies where it has all.
class StateSnapshot {
 public:
  /// Must be called between two steps. Throws UsageError if ranks train without each other
  /// (Strategy::relaxed()): what groups and servers have agreed on cannot be taken back. `trainer`
  /// must outlive the snapshot.
  explicit StateSnapshot(Trainer& trainer);

  /// Gives the trainer back what it had. Collective: ranks may share memory. May be called again.
  void restore();

 private:
  Trainer& trainer_;
  std::vector<std::byte> values_;
  std::int64_t steps_done_;
  SkippedSteps skipped_;
  std::optional<LossScale::State> loss_scale_;
  double lr_;
  double gradient_scale_;
};

}  // namespace trireme
