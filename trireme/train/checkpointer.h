#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "trireme/base/files.h"
#include "trireme/checkpoint/checkpoint.h"
#include "trireme/train/run_directory.h"
#include "trireme/train/trainer.h"

namespace trireme {

/// Saves and restores the state of a trainer in the checkpoints of a run directory.
///
///     Trainer trainer(config, *world);
///     Checkpointer checkpointer(trainer, {directory});
///     checkpointer.restore();
///     while (trainer.steps_done() < last) trainer.step();
///     checkpointer.save();
///
/// A trainer on any number of ranks, with any strategy, restores what any other has saved. The
/// trainer and `files` must outlive the checkpointer.
class Checkpointer {
 public:
  Checkpointer(Trainer& trainer, RunDirectory directory, Files& files = real_files());

  /// Restores the newest checkpoint; the trainer's next step is the one after it. Returns the names
  /// of the strategy's state that the checkpoint does not have, which keeps its initial values.
  /// Collective. Throws DataError if there is no checkpoint or a damaged one, UsageError if it
  /// belongs to a run with another order of samples.
  std::vector<std::string> restore();

  /// Saves the state after the steps that are done, and removes older checkpoints than
  /// checkpoint.keep. Must be called after a step that was synchronized. Collective over the
  /// trainer's SavingGroup; other ranks save the state that only they have. Returns the folder of
  /// the checkpoint, nothing on a rank outside of the group.
  std::optional<std::filesystem::path> save();

 private:
  std::vector<std::string> restore_local();
  void save_local();
  std::vector<StateTensor> local_state();
  void require_same_order(const RunState& state, const std::filesystem::path& checkpoint) const;
  RunState state() const;
  int keep() const { return static_cast<int>(trainer_.config().checkpoint.keep); }

  Trainer& trainer_;
  RunDirectory directory_;
  Files& files_;
};

}  // namespace trireme
