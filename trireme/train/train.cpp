#include "trireme/train/train.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "trireme/base/clock.h"
#include "trireme/base/error.h"
#include "trireme/base/files.h"
#include "trireme/checkpoint/agreement.h"
#include "trireme/checkpoint/model_file.h"
#include "trireme/checkpoint/step_folder.h"
#include "trireme/comm/self/self.h"
#include "trireme/formats/printable.h"
#include "trireme/parallel/relaxed_consistency.h"
#include "trireme/plan/agreement.h"
#include "trireme/train/arithmetic.h"
#include "trireme/train/checkpointer.h"
#include "trireme/train/components.h"
#include "trireme/train/due.h"
#include "trireme/train/evaluation_metrics.h"
#include "trireme/train/evaluator.h"
#include "trireme/train/measured_shares.h"
#include "trireme/train/reporter.h"
#include "trireme/train/resolved_config.h"
#include "trireme/train/run_lock.h"
#include "trireme/train/sample_text.h"
#include "trireme/train/sealed_text.h"
#include "trireme/train/trial.h"

namespace trireme {

namespace {

NamedTensors tensors_of(const Standardization& statistics) {
  NamedTensors tensors;
  const auto add = [&](const char* name, const std::vector<double>& values) {
    if (!values.empty()) tensors.buffers.emplace_back(name, at::tensor(values, at::kDouble));
  };
  add("fill", statistics.fill);
  add("mean", statistics.mean);
  add("deviation", statistics.deviation);
  add("target_mean", statistics.target_mean);
  add("target_deviation", statistics.target_deviation);
  return tensors;
}

// Names may have bytes that are no UTF-8, which are replaced.
std::string to_text(const nlohmann::json& json) {
  return json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

// How a program maps inputs and outputs of the model file to columns and classes: JSON arrays in
// its metadata.
std::map<std::string, std::string> metadata_of(const DataSets& data) {
  if (!data.schema) return {};
  nlohmann::json features = nlohmann::json::array();
  for (const CsvFeature& feature : data.schema->features) features.push_back(feature.name());
  nlohmann::json unused = nlohmann::json::object();
  for (const UnusedCsvColumn& column : data.schema->unused) unused[column.name] = column.reason;
  std::map<std::string, std::string> metadata{{"trireme.features", to_text(features)}};
  if (!unused.empty()) metadata["trireme.unused_columns"] = to_text(unused);
  if (!data.schema->classes.empty()) metadata["trireme.classes"] = to_text(data.schema->classes);
  return metadata;
}

// The configuration with the columns that were found, and why others are not used.
std::string config_text(const Trainer& trainer) {
  std::string text = std::string(kRunConfigHeader) + to_toml(resolved_config(trainer));
  const auto& schema = trainer.data().schema;
  if (schema && !schema->unused.empty()) {
    text += "\n# Columns that are not used:\n";
    for (const UnusedCsvColumn& column : schema->unused) {
      text += fmt::format("#   {}: {}\n", printable(column.name), column.reason);
    }
  }
  return sealed(std::move(text));
}

// Collective: the first rank does `part`; if it fails, all ranks throw its error.
void on_first_rank(Communicator& world, const std::function<void()>& part) {
  agree(world, [&] {
    if (world.rank() == 0) part();
    return std::string();
  });
}

// Another run's copies are never replaced.
void require_empty_mirror(const Config& config, Files& files) {
  const std::filesystem::path mirror = config.checkpoint.mirror;
  if (mirror.empty() || complete_checkpoints(mirror, files).empty()) return;
  throw UsageError(fmt::format(
      "checkpoint.mirror: {} holds the checkpoints of a run; go on with that run by --resume auto, "
      "or name another folder",
      mirror.string()));
}

// What could fail is tried before the data is read. Collective.
std::unique_ptr<RunLock> claim_directory(const Config& config, Communicator& world,
                                         const TrainOptions& options, Files& files) {
  const RunDirectory run{config.run.directory};
  std::unique_ptr<RunLock> lock;
  on_first_rank(world, [&] {
    if (!options.resume) {
      require_own_directory(run, files);
      require_empty_mirror(config, files);
    }
    if (!options.holds_lock) lock = std::make_unique<RunLock>(run, files);
    remove_unfinished(run, files);
    probe_directory(run, files);
  });
  return lock;
}

// Asynchronous ranks remove their own checkpoints themselves: the ranks do not wait for each other.
void prepare_directory(const Trainer& trainer, const RunDirectory& run, Files& files) {
  const int rank = trainer.world().rank();
  const bool is_new = trainer.steps_done() == 0;
  on_first_rank(trainer.world(), [&] {
    if (is_new) remove_earlier_run(run, files);
    if (trainer.saving_group().is_world()) remove_local_checkpoints(run, files);
    write_file_atomically(run.config(), config_text(trainer), files);
  });
  if (is_new) remove_local_checkpoints(run, rank, files);
}

std::optional<MetricsLog> open_metrics(const Trainer& trainer, const RunDirectory& run,
                                       Files& files) {
  if (trainer.world().rank() > 0) return std::nullopt;
  return MetricsLog(run.metrics(), trainer.steps_done(), files);
}

/// training.max_time, from now on.
class TimeLimit {
 public:
  TimeLimit(Duration limit, const Clock& clock)
      : limit_(limit.seconds), clock_(clock), began_(clock.now()) {}

  bool has_passed() const { return limit_.count() > 0 && clock_.now() - began_ >= limit_; }

 private:
  std::chrono::duration<double> limit_;  // 0: none
  const Clock& clock_;
  Clock::Time began_;
};

/// The loop of a run and what is due after its steps.
class TrainingRun {
 public:
  /// `must_stop`: returns true once this rank wants all to stop.
  TrainingRun(Trainer& trainer, Checkpointer& checkpointer, Observer& observer,
              RunDirectory directory, StopRequested must_stop, Files& files)
      : trainer_(trainer),
        checkpointer_(checkpointer),
        observer_(observer),
        directory_(std::move(directory)),
        must_stop_(std::move(must_stop)),
        files_(files),
        due_(trainer.config(), trainer.data().sampler->steps_per_epoch(), trainer.last_step(),
             trainer.data().evaluation != nullptr),
        reporter_(observer, open_metrics(trainer, directory_, files),
                  trainer.data().sampler->steps_per_epoch()) {}

  RunSummary run() {
    while (trainer_.steps_done() < trainer_.last_step() && !interrupted_) {
      if (step()) catch_up();
      if (checkpointer_.has_saved()) finish_saving();
    }
    finish_saving();
    if (!interrupted_ && trainer_.saving_group().has_this_rank()) save_final_model();
    RunSummary summary = reporter_.finish(trainer_.steps_done(), interrupted_, directory_.root);
    const Target target = trainer_.data().train->target();
    if (target.kind == Target::Kind::kTokens) {
      summary.tokens_per_second = summary.samples_per_second * static_cast<double>(target.length);
    }
    if (!interrupted_ && trainer_.saving_group().has_this_rank()) {
      summary.sample_text = sample_text(trainer_);
    }
    return summary;
  }

 private:
  // Returns true if the ranks are synchronized after the step.
  bool step() {
    const std::int64_t before = trainer_.steps_done();
    const bool reports = due_.metrics(before + 1);
    const TrainedStep step = trainer_.step(
        {.stop = must_stop_(), .sync = sync_after(before + 1), .measure_norm = reports});
    reporter_.report(step, reports);
    for (std::int64_t done = before + 1; done <= trainer_.steps_done(); ++done) note_due(done);
    interrupted_ = step.stop && trainer_.steps_done() < trainer_.last_step();
    return step.synchronized;
  }

  Sync sync_after(std::int64_t step) const {
    if (step == trainer_.last_step()) return Sync::kNow;
    const bool is_needed =
        must_evaluate_ || must_save_ || due_.evaluation(step) || due_.checkpoint(step);
    return is_needed ? Sync::kIfFree : Sync::kWhenDue;
  }

  void note_due(std::int64_t done) {
    must_evaluate_ = must_evaluate_ || due_.evaluation(done);
    must_save_ = must_save_ || due_.checkpoint(done);
  }

  void catch_up() {
    const bool belongs = trainer_.saving_group().has_this_rank();
    if (must_evaluate_ && !interrupted_ && belongs) evaluate_model();
    if (must_save_ || interrupted_) save();
    must_evaluate_ = must_save_ = false;
  }

  // The next step stops on all ranks, if there is one.
  void evaluate_model() {
    if (const auto report = evaluate(trainer_, must_stop_)) {
      evaluation_ = report;
      reporter_.report(*report);
    } else if (trainer_.steps_done() == trainer_.last_step()) {
      observer_.on_warning("the evaluation of the last step has no result: it was interrupted");
    }
  }

  void save() {
    finish_saving();
    const bool is_evaluated = evaluation_ && evaluation_->step == trainer_.steps_done();
    const auto evaluation = is_evaluated ? evaluation_ : std::nullopt;
    saving_step_ = trainer_.steps_done();
    const bool in_background = trainer_.config().checkpoint.background && !interrupted_;
    report_saved([&]() -> std::optional<SavedCheckpoint> {
      if (!in_background) return checkpointer_.save(evaluation);
      checkpointer_.start_saving(evaluation);
      return std::nullopt;
    });
  }

  // Of a save in the background.
  void finish_saving() {
    if (checkpointer_.is_saving()) report_saved([&] { return checkpointer_.finish_saving(); });
  }

  // What has been trained is worth more than a checkpoint.
  void report_saved(const std::function<std::optional<SavedCheckpoint>()>& save) {
    try {
      const auto saved = save();
      if (saved) observer_.on_checkpoint(saved->folder);
      reporter_.note_checkpoint(true);
      if (saved) report_mirror(saved->mirror_error);
    } catch (const DataError& error) {
      reporter_.note_checkpoint(false);
      reporter_.warn(fmt::format("the checkpoint of step {} could not be written: {}", saving_step_,
                                 error.what()));
    }
  }

  // A second copy that cannot be written is told once, until one can be written again.
  void report_mirror(const std::string& error) {
    if (!error.empty() && !has_mirror_failed_) {
      reporter_.warn(
          fmt::format("checkpoint.mirror: the copy of the checkpoint of step {} could not be "
                      "written, and the run goes on without it: {}",
                      saving_step_, error));
    }
    has_mirror_failed_ = !error.empty();
  }

  void save_final_model() {
    const SaveModelOptions options{.metadata = metadata_of(trainer_.data()),
                                   .file_bytes = trainer_.config().checkpoint.model_file_bytes};
    const NamedTensors tensors = trainer_.model().tensors();
    if (!trainer_.strategy().holds_parameters()) {
      std::vector<StateTensor> mine;
      for (const Shard& shard : trainer_.strategy().shards()) mine.push_back(shard.state());
      save_model(directory_.model(), tensors, trainer_.world(), mine, options, files_);
    }
    if (trainer_.world().rank() == 0) {
      if (trainer_.strategy().holds_parameters()) {
        save_model(directory_.model(), tensors, options, files_);
      }
      if (!trainer_.data().tokenizer.empty()) {
        write_file_atomically(directory_.tokenizer(), trainer_.data().tokenizer, files_);
      }
      const auto& statistics = trainer_.data().statistics;
      if (statistics) {
        save_model(directory_.standardization(), tensors_of(*statistics), {}, files_);
      }
    }
    trainer_.saving_group().communicator().barrier();
  }

  Trainer& trainer_;
  Checkpointer& checkpointer_;
  Observer& observer_;
  RunDirectory directory_;
  StopRequested must_stop_;
  Files& files_;
  Due due_;
  Reporter reporter_;
  // Due, but ranks were not synchronized since.
  bool must_evaluate_ = false;
  bool must_save_ = false;
  std::optional<EvaluationReport> evaluation_;  // the last
  std::int64_t saving_step_ = 0;                // of the save that has begun last
  bool has_mirror_failed_ = false;
  bool interrupted_ = false;
};

}  // namespace

namespace {

// What is not as it was when the run was stopped, and was asked for, a sentence each. Throws
// UsageError for what was not.
std::vector<std::string> changes_since(const Restored& restored, const Trainer& trainer,
                                       const TrainOptions& options) {
  std::vector<std::string> changes;
  const std::string& digest = trainer.data().digest.value;
  if (restored.data_digest && *restored.data_digest != digest) {
    const std::string change = fmt::format(
        "the run was trained on other data: the digest of its files was {}, and is {} (of {})",
        restored.data_digest->empty() ? "that of generated data" : *restored.data_digest,
        digest.empty() ? "that of generated data" : digest, trainer.data().digest.covers);
    if (!options.allow_changed_data) {
      throw UsageError(change +
                       "; resume with the files as they were, or with --allow-changed-data");
    }
    changes.push_back(change);
  }
  if (restored.last_step && *restored.last_step != trainer.last_step()) {
    const double was = trainer.next_lr(*restored.last_step);
    const double is = trainer.next_lr(trainer.last_step());
    if (was != is) {
      changes.push_back(
          fmt::format("the run was to end after step {}, and now after step {}: its schedule would "
                      "have gone on "
                      "with a learning rate of {:.4g}, and goes on with {:.4g}; lr_scheduler.name "
                      "= \"constant\" "
                      "and optimizer.lr choose another one",
                      *restored.last_step, trainer.last_step(), was, is));
    }
  }
  return changes;
}

void try_passes(Trainer& trainer) {
  const DataSets& data = trainer.data();
  Communicator* const together = trainer.strategy().holds_parameters() ? nullptr : &trainer.world();
  try_training(trainer.model(), trainer.loss(), *data.train, *data.sampler,
               trainer.strategy().virtual_workers(), together);
  const SavingGroup& group = trainer.saving_group();
  if (data.evaluation == nullptr || !group.has_this_rank()) return;
  try_evaluation(trainer.model(), trainer.loss(), *data.evaluation, group.tree(),
                 group.communicator().rank(), trainer.config().evaluation.batch, together);
}

// A rank that needs one that is lost has nothing to tell the others.
void report_failure(Trainer& trainer, const std::string& why) {
  RelaxedConsistency* const relaxed = trainer.strategy().relaxed();
  if (relaxed == nullptr) return;
  try {
    relaxed->report_failure(why);
  } catch (const Error&) {
    // The error of the run is the one to throw.
  }
}

}  // namespace

RunSummary train(const Config& config, Communicator& world, Observer& observer,
                 const TrainOptions& options, Files& files) {
  const TimeLimit time_limit(config.training.max_time, *options.clock);
  at::set_num_threads(static_cast<int>(std::max<std::int64_t>(1, config.training.threads)));
  plan::require_same_configuration(config, world);
  plan::RunPlan plan = check(config, world.size());
  const RunDirectory directory{config.run.directory};
  const std::unique_ptr<RunLock> lock = claim_directory(config, world, options, files);
  Config measured = config;
  measure_shares(measured, plan, world);
  Trainer trainer(measured, plan, world);
  Checkpointer checkpointer(trainer, directory, files);
  Restored restored;
  require_same_data(trainer.data().digest, world);
  require_metric(config, trainer.data());
  try_passes(trainer);
  std::vector<std::string> warnings;
  if (options.resume) {
    restored = checkpointer.restore(options.step);
    warnings = changes_since(restored, trainer, options);
  }
  prepare_directory(trainer, directory, files);
  RunDescription description = trainer.describe();
  description.not_restored = std::move(restored.absent);
  describe_arithmetic(trainer, description);
  const auto must_stop = [&] { return observer.stop_requested() || time_limit.has_passed(); };
  TrainingRun run(trainer, checkpointer, observer, directory, must_stop, files);
  observer.on_start(description);
  for (const std::string& warning : warnings) observer.on_warning(warning);
  for (const std::string& reason : restored.passed_over) {
    observer.on_warning(
        fmt::format("the run goes on from step {}: {}", trainer.steps_done(), reason));
  }
  try {
    RunSummary summary = run.run();
    summary.out_of_time = summary.interrupted && time_limit.has_passed();
    return summary;
  } catch (const CommError&) {
    throw;
  } catch (const std::exception& error) {
    report_failure(trainer, error.what());
    throw;
  }
}

void dry_run(const Config& config, int ranks) {
  const plan::RunPlan plan = check(config, ranks);
  const auto alone = self_communicator();
  const Mesh mesh = mesh_of({}, *alone);
  const ReductionTree tree(plan.batch.virtual_workers, 1);
  const DataSets data = open_data(config, plan, *alone, tree);
  require_metric(config, data);
  const Loss loss = loss_of(config, *data.train);
  const auto model = model_of(config, plan, *data.train, mesh);
  try_training(*model, loss, *data.train, *data.sampler, tree.virtual_workers_of(0));
  if (data.evaluation == nullptr) return;
  try_evaluation(*model, loss, *data.evaluation, tree, 0, config.evaluation.batch);
}

}  // namespace trireme
