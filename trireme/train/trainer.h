#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "trireme/comm/communicator.h"
#include "trireme/comm/mesh.h"
#include "trireme/config/config.h"
#include "trireme/data/loader.h"
#include "trireme/kernels/reduction_tree.h"
#include "trireme/model/loss.h"
#include "trireme/model/model.h"
#include "trireme/optim/loss_scale.h"
#include "trireme/optim/optimizer.h"
#include "trireme/optim/schedule.h"
#include "trireme/parallel/strategy.h"
#include "trireme/plan/run_plan.h"
#include "trireme/plan/schedule.h"
#include "trireme/train/data_sets.h"
#include "trireme/train/model_files.h"
#include "trireme/train/report.h"
#include "trireme/train/saving_group.h"
#include "trireme/train/step_runner.h"

namespace trireme {

/// What the caller of Trainer::step() wants of a step.
struct StepRequest {
  bool stop = false;  ///< this rank asks all ranks to stop after a common step
  Sync sync = Sync::kWhenDue;
  bool measure_norm = false;  ///< the gradient's norm is wanted even if nothing clips it
  std::optional<double> lr = std::nullopt;  ///< none: the learning rate of the schedule
};

/// Steps in which nothing was updated (training.on_nonfinite).
struct SkippedSteps {
  std::int64_t in_all = 0;
  std::int64_t in_a_row = 0;  ///< the last ones
};

/// A step that has been made.
struct TrainedStep {
  std::int64_t step = 0;  ///< counted from 1
  double loss = 0;        ///< mean over the weight of the step
  double lr = 0;
  std::optional<double> gradient_norm;
  bool stop = false;         ///< all ranks stop after this step
  bool synchronized = true;  ///< all ranks have the same parameters: they may be saved
  /// Why nothing was updated in this step, which counts all the same; "" if all went well.
  std::string skipped = {};
  std::int64_t samples = 0;          ///< over all ranks
  std::optional<double> loss_scale;  ///< of this step, in f16

  // Of this rank. seconds: from the first to the last instruction, the next three together.
  double seconds = 0;
  double data_seconds = 0;  ///< waiting for samples
  double compute_seconds = 0;
  double communication_seconds = 0;  ///< that backward could not hide, and waiting for ranks
  double arrived = 0;  ///< when its gradients were complete, in seconds of the host's steady clock
  Traffic traffic;
};

/// One rank's part of a training run in memory: data, model, strategy and optimizer.
///
///     Trainer trainer(config, plan::resolve(config, world->size()), *world);
///     while (trainer.steps_done() < trainer.last_step()) trainer.step();
///
/// Constructing a trainer communicates and reads the data, and has no other effect: a trainer may
/// be destroyed after any step and built again in the same process, on other ranks, and it may be
/// timed without a run. Nothing is written; Checkpointer saves and restores its state.
///
/// One thread may use it.
class Trainer {
 public:
  /// Collective. `plan`: of `config` for the ranks of `world`, which must outlive the trainer.
  /// Throws UsageError or DataError.
  Trainer(const Config& config, const plan::RunPlan& plan, Communicator& world);

  /// Makes one optimizer update, the next one. Collective. If the other ranks have made steps
  /// without this one, skips them as well. Must be called only while steps_done() < last_step().
  ///
  /// If the loss, a gradient or a buffer is not finite, the parameters stay as they are. Then
  /// throws DivergedError, or with training.on_nonfinite = "skip" goes on: the samples count as
  /// used, the learning rate's schedule does not advance, and training.max_skipped_steps such steps
  /// in a row throw DivergedError. A step in which the loss is finite and its scale, in f16, is
  /// above 1 is skipped in any case, halves the scale, and is not one of those in a row.
  TrainedStep step(const StepRequest& request = {});

  /// The communication of a step by itself, with gradients of zero. Collective.
  void communicate();

  /// Steps that are done, those that this rank has skipped included.
  std::int64_t steps_done() const { return steps_done_; }
  std::int64_t last_step() const { return last_step_; }

  /// Of the whole run, also before it was resumed.
  SkippedSteps skipped_steps() const { return skipped_; }

  /// The learning rate of the next step in a run that ends after step `last_step`.
  double next_lr(std::int64_t last_step) const;

  /// Continues after step `done`, once the state of that step has been restored.
  void continue_after(std::int64_t done, SkippedSteps skipped = {},
                      const std::optional<LossScale::State>& loss_scale = std::nullopt);

  /// None but in f16.
  const std::optional<LossScale>& loss_scale() const { return loss_scale_; }

  /// Throws DivergedError if what a checkpoint would hold is not finite. Collective over the
  /// SavingGroup.
  void require_finite_state();

  RunDescription describe() const;

  const Config& config() const { return config_; }
  Communicator& world() const { return world_; }
  const SavingGroup& saving_group() const { return saving_group_; }
  /// Which virtual workers each rank has.
  const ReductionTree& tree() const { return tree_; }
  const DataSets& data() const { return data_; }
  const Loss& loss() const { return loss_; }
  Model& model() { return *model_; }
  Strategy& strategy() { return *strategy_; }
  Optimizer& optimizer() { return *optimizer_; }
  /// The files that the model was made from.
  const ModelFiles& model_files() const { return model_files_; }

 private:
  StepBatches next_batches();
  bool clip(TrainedStep& step, const StepRequest& request);
  std::string overflow(const GradientReport& report) const;
  std::string reject(std::int64_t step, const GradientReport& report, const StepBatches& batches);
  void skip(std::int64_t steps, TrainedStep& step);
  Traffic traffic() const;

  Config config_;
  plan::RunPlan plan_;
  Communicator& world_;
  Mesh mesh_;
  ReductionTree tree_;
  DataSets data_;
  Loss loss_;
  ModelFiles model_files_;
  std::unique_ptr<Model> model_;
  std::unique_ptr<Strategy> strategy_;
  SavingGroup saving_group_;
  std::unique_ptr<Optimizer> optimizer_;
  StepRunner runner_;
  plan::Schedule micro_batches_;
  std::int64_t last_step_;
  std::unique_ptr<Schedule> lr_schedule_;
  std::unique_ptr<Loader> loader_;  // null: reading has not begun
  std::int64_t steps_done_ = 0;
  SkippedSteps skipped_;
  std::optional<LossScale> loss_scale_;
};

}  // namespace trireme
