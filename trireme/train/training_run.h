#pragma once

#include <chrono>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "trireme/checkpoint/checkpoint.h"
#include "trireme/comm/self/self.h"
#include "trireme/data/loader.h"
#include "trireme/kernels/reduction_tree.h"
#include "trireme/model/loss.h"
#include "trireme/model/model.h"
#include "trireme/optim/optimizer.h"
#include "trireme/optim/schedule.h"
#include "trireme/parallel/strategy.h"
#include "trireme/train/data_sets.h"
#include "trireme/train/metrics_log.h"
#include "trireme/train/run_directory.h"
#include "trireme/train/train.h"

namespace trireme {

/// One run on one rank: everything that train() puts together, and its loop.
class TrainingRun {
 public:
  /// Collective: builds all of it. With `resume` from the newest checkpoint in the run's directory.
  TrainingRun(const Config& config, Communicator& world, Observer& observer, bool resume);

  /// Collective: trains to the end, or until an observer asks to stop.
  RunSummary run();

  /// What run() does, piece by piece, for those who measure it. Nothing is written.

  /// Collective: one optimizer update, the `step`-th from 0 on, each once and in order. True if
  /// somebody asks to stop after it.
  bool step(std::int64_t step);

  /// Collective: a step's communication alone, of gradients that are zero.
  void communicate();

  RunDescription describe() const;

 private:
  using Clock = std::chrono::steady_clock;

  void restore();
  void restore_own();
  void require_same_order(const RunState& state, const std::filesystem::path& checkpoint) const;
  std::map<std::string, std::string> order() const;
  void backward(const StepBatches& batches);
  void require_finite_loss(std::int64_t step);
  std::string first_bad_gradient();
  void clip(std::int64_t step);
  Sync sync_after(std::int64_t done) const;
  Traffic traffic() const;
  bool report_due(std::int64_t done) const;
  void report(std::int64_t done);
  void evaluate_model(std::int64_t done);
  std::int64_t leave_out(std::int64_t done);
  bool asynchronous() const;
  // Of ranks that go alone the first one evaluates and saves, by itself.
  bool takes_part() const { return !asynchronous() || first_rank(); }
  Communicator& team() const { return asynchronous() ? *alone_ : world_; }
  bool evaluation_due(std::int64_t done) const;
  bool checkpoint_due(std::int64_t done) const;
  void save(std::int64_t done);
  void save_own(std::int64_t done);
  void save_final_model();
  bool first_rank() const { return world_.rank() == 0; }

  const Config& config_;
  Communicator& world_;
  Observer& observer_;
  RunDirectory directory_;
  ReductionTree tree_;
  DataSets data_;
  Loss loss_;
  std::unique_ptr<Model> model_;
  std::unique_ptr<Communicator> alone_ = self_communicator();
  std::unique_ptr<Strategy> strategy_;
  std::span<Shard> shards_;
  std::unique_ptr<Optimizer> optimizer_;
  std::int64_t first_step_ = 0;
  std::vector<std::string> starts_anew_;
  std::int64_t last_step_ = 0;
  std::unique_ptr<Schedule> schedule_;
  std::unique_ptr<Loader> loader_;
  std::optional<MetricsLog> metrics_;  // rank 0's

  GradientReport gradients_;  // of the step under way
  StepResult result_;         // of the last step
  RunSummary summary_;
  StepReport report_;
  bool evaluation_waits_ = false;  // for a step after which there is one model
  bool checkpoint_waits_ = false;
  std::int64_t samples_ = 0;  // since the last report
  std::int64_t samples_of_run_ = 0;
  double seconds_of_steps_ = 0;
  Clock::time_point reported_;
};

}  // namespace trireme
