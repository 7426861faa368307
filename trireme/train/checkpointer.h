#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "trireme/base/files.h"
#include "trireme/checkpoint/background_save.h"
#include "trireme/checkpoint/checkpoint.h"
#include "trireme/checkpoint/restore_common.h"
#include "trireme/checkpoint/retention.h"
#include "trireme/train/report.h"
#include "trireme/train/run_directory.h"
#include "trireme/train/trainer.h"

namespace trireme {

/// What Checkpointer::restore() has found.
struct Restored {
  /// Names of the strategy's state that the checkpoint does not have, which keeps its initial
  /// values.
  std::vector<std::string> absent;
  /// Newer checkpoints that were not taken, because ranks lack them or they are damaged: a sentence
  /// each.
  std::vector<std::string> passed_over;
  SkippedSteps skipped;
  std::optional<LossScale::State> loss_scale;  ///< none: the checkpoint does not say
  /// DataDigest of the data that the run was trained on; none: the checkpoint does not say.
  std::optional<std::string> data_digest;
  /// Where the run was to end, which schedules of the learning rate depend on.
  std::optional<std::int64_t> last_step;
};

/// A checkpoint that was saved.
struct SavedCheckpoint {
  std::filesystem::path folder;
  /// Why the copy in checkpoint.mirror could not be written; "": it is there, or there is none.
  /// Rank 0 knows it.
  std::string mirror_error;
};

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

  /// Restores the newest checkpoint that all ranks have and that is whole or, with `step`, the one
  /// of that step; the trainer's next step is the one after it. In place of a damaged one the copy
  /// of the same step in checkpoint.mirror is taken, and if no checkpoint is whole, the newest in
  /// the mirror. Collective. Throws DataError if there is no such checkpoint, UsageError if not all
  /// ranks have that of `step` or if it belongs to a run with another order of samples, model or
  /// type.
  Restored restore(std::optional<std::int64_t> step = std::nullopt);

  /// Saves the state after the steps that are done, with what an `evaluation` of them has found,
  /// and removes the older checkpoints that [checkpoint] does not keep, and those of later steps,
  /// which the run will make again. Must be called after a step that was synchronized. Collective
  /// over the trainer's SavingGroup; other ranks save the state that only they have. Then copies
  /// the checkpoint to checkpoint.mirror, if there is one. Returns nothing on a rank outside of the
  /// group. Throws DivergedError if the state is not finite, and DataError, on all ranks of the
  /// group, if it cannot be written; the run may go on then.
  std::optional<SavedCheckpoint> save(
      const std::optional<EvaluationReport>& evaluation = std::nullopt);

  /// The same in the background: start_saving() copies the state, which costs as much memory as
  /// this rank writes, and returns; finish_saving() waits until the copy is written, returns what
  /// save() returns, and throws DataError as it does. Every rank must call finish_saving() before
  /// the next save begins. What only a rank outside of the group has is written at once.
  void start_saving(const std::optional<EvaluationReport>& evaluation = std::nullopt);
  std::optional<SavedCheckpoint> finish_saving();
  /// True from start_saving() to finish_saving().
  bool is_saving() const { return background_ && background_->is_open(); }
  /// True if finish_saving() would not wait.
  bool has_saved() const { return is_saving() && background_->has_ended(); }

 private:
  struct Contents {
    RunState state;
    std::vector<StateTensor> tensors;
  };
  std::optional<CommonCheckpoint> restore_newest(std::optional<std::int64_t> step,
                                                 Restored& restored);
  void load_or_copy(const std::filesystem::path& path, Restored& restored);
  void load(const std::filesystem::path& path, Restored& restored);
  void restore_local(Restored& restored);
  void save_local(const std::optional<EvaluationReport>& evaluation);
  std::optional<Contents> contents(const std::optional<EvaluationReport>& evaluation);
  SavedCheckpoint write(const RunState& state, Communicator& ranks,
                        std::span<const StateTensor> tensors) const;
  std::vector<StateTensor> local_state();
  void require_same_run(const RunState& state, const std::filesystem::path& checkpoint) const;
  void require_same_model_files(const RunState& state,
                                const std::filesystem::path& checkpoint) const;
  RunState state() const;
  std::filesystem::path mirror() const { return trainer_.config().checkpoint.mirror; }

  Trainer& trainer_;
  RunDirectory directory_;
  Files& files_;
  SavedCheckpoint saved_;                     // by the save in the background
  std::optional<BackgroundSave> background_;  // from the first such save on
};

/// Which checkpoints a run of this configuration keeps.
Retention retention_of(const Config& config);

/// Returns true for the keys that a resumed run keeps: those of its model, its type and what
/// decides the order of samples. Checkpointer::restore() throws UsageError if one of them differs.
bool is_kept_by_run(const std::string& key);

/// Returns the step after which the run of a checkpoint was to end; nothing if it does not say.
std::optional<std::int64_t> last_step_of(const RunState& state);

/// Returns the resolved configuration that a checkpoint of a run holds, if it does: those of
/// earlier versions do not. `name`: of the checkpoint, for errors. `overrides`: as for
/// read_config(). Throws UsageError.
std::optional<Config> config_of_checkpoint(const RunState& state, const std::string& name,
                                           std::span<const std::string> overrides = {});

}  // namespace trireme
