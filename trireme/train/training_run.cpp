#include "trireme/train/training_run.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "trireme/base/files.h"
#include "trireme/base/random.h"
#include "trireme/checkpoint/checkpoint.h"
#include "trireme/checkpoint/model_file.h"
#include "trireme/comm/self/self.h"
#include "trireme/kernels/norm.h"
#include "trireme/optim/clip.h"
#include "trireme/parallel/relaxed_consistency.h"
#include "trireme/train/components.h"
#include "trireme/train/evaluate.h"
#include "trireme/train/measured_shares.h"
#include "trireme/train/pieces.h"

namespace trireme {

namespace {

NamedTensors tensors_of(const Standardization& statistics) {
  NamedTensors tensors;
  const auto add = [&](const char* name, const std::vector<double>& values) {
    if (!values.empty()) tensors.buffers.emplace_back(name, at::tensor(values, at::kDouble));
  };
  add("mean", statistics.mean);
  add("deviation", statistics.deviation);
  add("target_mean", statistics.target_mean);
  add("target_deviation", statistics.target_deviation);
  return tensors;
}

bool is_own_checkpoints(const std::filesystem::path& path) {
  return path.filename().string().starts_with("rank-");
}

void remove_checkpoints(const RunDirectory& run, bool own) {
  if (!std::filesystem::exists(run.checkpoints())) return;
  std::vector<std::filesystem::path> folders;
  for (const auto& entry : std::filesystem::directory_iterator(run.checkpoints())) {
    if (is_own_checkpoints(entry.path()) == own) folders.push_back(entry.path());
  }
  for (const auto& folder : folders) std::filesystem::remove_all(folder);
}

// Its checkpoints would be taken for this run's. Ranks that go alone remove what is theirs.
void remove_earlier_run(const RunDirectory& run) {
  remove_checkpoints(run, false);
  std::filesystem::remove(run.model());
  std::filesystem::remove(run.standardization());
}

double seconds_between(std::chrono::steady_clock::time_point from,
                       std::chrono::steady_clock::time_point to) {
  return std::chrono::duration<double>(to - from).count();
}

}  // namespace

TrainingRun::TrainingRun(const Config& config, Communicator& world, Observer& observer, bool resume)
    : config_(config),
      world_(world),
      observer_(observer),
      directory_{config.run.directory},
      tree_(tree_of(config, world.size())),
      data_(open_data(config, world, tree_)),
      loss_(make_loss(data_.train->target(), config.training.loss)),
      model_(model_of(config, *data_.train)),
      strategy_(strategy_of(config, world)),
      shards_(strategy_->attach(*model_)),
      optimizer_(optimizer_of(config, shards_)) {
  last_step_ = config.training.steps > 0
                   ? config.training.steps
                   : config.training.epochs * data_.sampler->steps_per_epoch();
  schedule_ = schedule_of(config, last_step_);
  if (resume) restore();
  loader_ = std::make_unique<Loader>(*data_.train, *data_.sampler, strategy_->virtual_workers(),
                                     Range{first_step_, std::max(first_step_, last_step_)},
                                     LoaderOptions{prefetch_steps_of(config, world.size())});
}

void TrainingRun::restore() {
  const auto newest = latest_checkpoint(directory_.checkpoints());
  if (!newest) {
    throw DataError(
        fmt::format("{}: no checkpoint to resume from", directory_.checkpoints().string()));
  }
  WantedPieces wanted =
      wanted_pieces(shards_, *optimizer_, *strategy_, *model_, tensors_of_checkpoint(*newest));
  const RunState state = load_checkpoint(*newest, wanted.pieces);
  starts_anew_ = std::move(wanted.absent);
  require_same_order(state, *newest);
  first_step_ = state.step;
  if (auto* relaxed = strategy_->relaxed()) relaxed->scatter_state(*optimizer_);
  restore_own();
  // Ranks may share memory: nobody goes on before all have read.
  world_.barrier();
}

// Written when this rank was at that step, which rank 0 was at another time. After Ctrl-C, which
// stops ranks at different steps, it is the newest.
void TrainingRun::restore_own() {
  RelaxedConsistency* const relaxed = strategy_->relaxed();
  if (relaxed == nullptr || relaxed->local_state().empty()) return;
  const std::vector<Strategy::State> states = relaxed->local_state();
  const std::filesystem::path folder = directory_.own_checkpoints(world_.rank());
  std::optional<std::filesystem::path> own = folder / fmt::format("step-{}", first_step_);
  if (!std::filesystem::exists(*own)) own = latest_checkpoint(folder);
  WantedPieces wanted;
  append_known(states, own ? tensors_of_checkpoint(*own) : std::set<std::string>(), wanted);
  if (!wanted.pieces.empty()) load_checkpoint(*own, wanted.pieces);
  std::ranges::move(wanted.absent, std::back_inserter(starts_anew_));
}

// Another cut of the batch or another shuffle would be another run.
void TrainingRun::require_same_order(const RunState& state,
                                     const std::filesystem::path& checkpoint) const {
  for (const auto& [key, mine] : order()) {
    const auto theirs = state.metadata.find(key);
    if (theirs != state.metadata.end() && theirs->second == mine) continue;
    throw UsageError(fmt::format(
        "{}: was written with {} = {}, got {}; a run that is resumed keeps it", checkpoint.string(),
        key, theirs == state.metadata.end() ? "nothing" : theirs->second, mine));
  }
}

std::map<std::string, std::string> TrainingRun::order() const {
  return {{"training.virtual_workers", std::to_string(tree_.leaves())},
          {"training.global_batch", std::to_string(config_.training.global_batch)},
          {"training.seed", std::to_string(config_.training.seed)},
          {"data.sampler", config_.data.sampler},
          {"optimizer.name", config_.optimizer.name}};
}

RunSummary TrainingRun::run() {
  if (first_rank()) {
    if (first_step_ == 0) remove_earlier_run(directory_);
    if (!asynchronous()) remove_checkpoints(directory_, true);
    std::filesystem::create_directories(directory_.root);
    write_file_atomically(directory_.config(), to_toml(config_));
    metrics_.emplace(directory_.metrics(), first_step_);
  }
  if (first_step_ == 0) std::filesystem::remove_all(directory_.own_checkpoints(world_.rank()));
  observer_.on_start(describe());
  model_->train(true);
  const auto began = reported_ = Clock::now();
  std::int64_t done = first_step_;
  while (done < last_step_ && !summary_.interrupted) {
    const bool stop_requested = step(done);
    done = leave_out(done + 1);
    summary_.interrupted = stop_requested && done < last_step_;
    evaluation_waits_ = evaluation_waits_ || evaluation_due(done);
    checkpoint_waits_ = checkpoint_waits_ || summary_.interrupted || checkpoint_due(done);
    if (!result_.synchronized) continue;
    if (evaluation_waits_ && !summary_.interrupted && takes_part()) evaluate_model(done);
    if (checkpoint_waits_) save_own(done);
    if (checkpoint_waits_ && takes_part()) save(done);
    evaluation_waits_ = checkpoint_waits_ = false;
  }
  if (!summary_.interrupted && takes_part()) save_final_model();
  summary_.steps = done;
  summary_.seconds = seconds_between(began, Clock::now());
  summary_.samples_per_second =
      seconds_of_steps_ > 0 ? static_cast<double>(samples_of_run_) / seconds_of_steps_ : 0;
  summary_.directory = directory_.root;
  return summary_;
}

RunDescription TrainingRun::describe() const {
  std::vector<std::int64_t> dealt_out;
  for (int rank = 0; rank < tree_.ranks(); ++rank) {
    dealt_out.push_back(tree_.leaves_of(rank).size());
  }
  std::int64_t parameters = 0;
  for (const auto& [name, tensor] : model_->tensors().parameters) parameters += tensor.numel();
  return {.model = config_.model.name,
          .parameters = parameters,
          .samples = data_.train->size(),
          .evaluation_samples = data_.evaluation ? data_.evaluation->size() : 0,
          .ranks = world_.size(),
          .communication = world_.description(),
          .threads = at::get_num_threads(),
          .virtual_workers = tree_.leaves(),
          .dealt_out = std::move(dealt_out),
          .first_step = first_step_,
          .starts_anew = starts_anew_,
          .steps = last_step_,
          .steps_per_epoch = data_.sampler->steps_per_epoch(),
          .global_batch = config_.training.global_batch};
}

bool TrainingRun::asynchronous() const {
  RelaxedConsistency* const relaxed = strategy_->relaxed();
  return relaxed != nullptr && relaxed->asynchronous();
}

Traffic TrainingRun::traffic() const {
  RelaxedConsistency* const relaxed = strategy_->relaxed();
  return relaxed != nullptr ? world_.traffic() + relaxed->traffic() : world_.traffic();
}

void TrainingRun::communicate() {
  strategy_->begin({.passes = 0});
  strategy_->reduce_gradients();
  strategy_->update(*optimizer_);
}

// The steps that the others have gone on without this rank; returns how many are done then.
std::int64_t TrainingRun::leave_out(std::int64_t done) {
  std::int64_t missed = std::min(result_.skipped_steps, last_step_ - done);
  if (missed <= 0) return done;
  for (; missed > 0; --missed) {
    loader_->next();
    ++done;
    evaluation_waits_ = evaluation_waits_ || evaluation_due(done);
    checkpoint_waits_ = checkpoint_waits_ || checkpoint_due(done);
  }
  if (done == last_step_) {
    strategy_->relaxed()->synchronize();
  }
  return done;
}

bool TrainingRun::step(std::int64_t step) {
  const auto start = Clock::now();
  const Traffic before = traffic();
  const auto batches = loader_->next();
  const auto loaded = Clock::now();
  strategy_->begin({.passes = static_cast<int>(batches->batches.size()),
                    .weight = static_cast<double>(batches->samples),
                    .request_stop = observer_.stop_requested()});
  backward(*batches);
  const auto computed = Clock::now();
  gradients_ = strategy_->reduce_gradients();
  const auto reduced = Clock::now();
  require_finite_loss(step);
  clip(step);
  const auto clipped = Clock::now();
  result_ = strategy_->update(*optimizer_, sync_after(step + 1));
  const auto updated = Clock::now();

  samples_ += batches->samples;
  samples_of_run_ += batches->samples;
  seconds_of_steps_ += seconds_between(start, updated);
  report_.data_seconds += seconds_between(start, loaded);
  report_.compute_seconds += seconds_between(loaded, computed) + seconds_between(reduced, clipped);
  // Groups and servers exchange parameters in update().
  (strategy_->relaxed() ? report_.communication_seconds : report_.compute_seconds) +=
      seconds_between(clipped, updated);
  report_.communication_seconds += seconds_between(computed, reduced);
  const Traffic moved = traffic() - before;
  report_.traffic += moved;
  summary_.traffic += moved;
  report(step + 1);
  return result_.stop;
}

Sync TrainingRun::sync_after(std::int64_t done) const {
  if (done == last_step_) return Sync::kNow;
  const bool needs_one_model =
      evaluation_waits_ || checkpoint_waits_ || evaluation_due(done) || checkpoint_due(done);
  return needs_one_model ? Sync::kIfFree : Sync::kWhenDue;
}

void TrainingRun::backward(const StepBatches& step) {
  for (std::size_t i = 0; i < step.batches.size(); ++i) {
    const Batch& batch = step.batches[i];
    // What dropout draws depends on the step and the virtual worker, not on the rank.
    at::manual_seed(mix_seed(static_cast<std::uint64_t>(config_.training.seed),
                             static_cast<std::uint64_t>(step.step),
                             static_cast<std::uint64_t>(step.workers[i])));
    const at::Tensor loss = loss_(model_->forward(batch.input), batch.target);
    strategy_->backward(loss * batch.input.size(0));
  }
}

void TrainingRun::require_finite_loss(std::int64_t step) {
  if (std::isfinite(gradients_.loss)) return;
  throw DivergedError(fmt::format("training diverged: the loss of step {} is {}{}", step + 1,
                                  gradients_.loss, first_bad_gradient()));
}

// "; the first parameter with a bad gradient is fc1.weight", on every rank that has the gradient.
std::string TrainingRun::first_bad_gradient() {
  strategy_->gradient_norm();
  const auto parameters = model_->tensors().parameters;
  auto first = static_cast<std::int64_t>(parameters.size());
  for (std::size_t p = 0; p < parameters.size(); ++p) {
    for (const Shard& shard : shards_) {
      if (shard.name != parameters[p].first || !shard.has_gradient) continue;
      const Buffer gradient{const_cast<void*>(shard.gradient.front()), shard.values.count,
                            shard.values.dtype};
      if (!all_finite(gradient)) first = std::min(first, static_cast<std::int64_t>(p));
    }
  }
  // Ranks that hold all of it found the same, and others may have gone on.
  if (!strategy_->shards_are_whole()) {
    world_.all_reduce(buffer_of(std::span(&first, 1)), ReduceOp::kMin).wait();
  }
  if (first == static_cast<std::int64_t>(parameters.size()))
    return "; every gradient is finite, the outputs are too large: try a smaller optimizer.lr";
  return fmt::format(
      "; the first parameter with a bad gradient is {}. Try a smaller "
      "optimizer.lr, training.clip_norm or lr_scheduler.warmup_steps",
      parameters[static_cast<std::size_t>(first)].first);
}

void TrainingRun::clip(std::int64_t step) {
  report_.gradient_norm.reset();
  const bool reported = report_due(step + 1);
  if (reported || config_.training.clip_norm > 0) {
    const double norm = strategy_->gradient_norm();
    if (!std::isfinite(norm)) {
      throw DivergedError(fmt::format("training diverged: the gradient of step {} has norm {}{}",
                                      step + 1, norm, first_bad_gradient()));
    }
    if (config_.training.clip_norm > 0) {
      optimizer_->set_gradient_scale(clip_scale(norm, config_.training.clip_norm));
    }
    if (reported) report_.gradient_norm = norm;
  }
  optimizer_->set_lr(schedule_->lr_at(step));
}

bool TrainingRun::report_due(std::int64_t done) const {
  return done % config_.metrics.every_steps == 0 || done == last_step_;
}

void TrainingRun::report(std::int64_t done) {
  report_.step = done;
  report_.epoch = static_cast<double>(done) / static_cast<double>(data_.sampler->steps_per_epoch());
  report_.loss = summary_.loss = result_.loss;
  report_.lr = optimizer_->lr();
  if (!report_due(done)) return observer_.on_step(report_);
  const auto now = Clock::now();
  report_.samples_per_second = static_cast<double>(samples_) / seconds_between(reported_, now);
  observer_.on_step(report_);
  if (metrics_) metrics_->write(report_);
  reported_ = now;
  samples_ = 0;
  report_ = StepReport();
}

bool TrainingRun::checkpoint_due(std::int64_t done) const {
  const auto every = config_.checkpoint.every_steps;
  return done == last_step_ || (every > 0 && done % every == 0);
}

bool TrainingRun::evaluation_due(std::int64_t done) const {
  if (!data_.evaluation) return false;
  const auto every_steps = config_.evaluation.every_steps;
  const auto every_epochs = config_.evaluation.every_epochs * data_.sampler->steps_per_epoch();
  return done == last_step_ || (every_steps > 0 && done % every_steps == 0) ||
         (every_steps == 0 && every_epochs > 0 && done % every_epochs == 0);
}

void TrainingRun::evaluate_model(std::int64_t done) {
  const EvaluationSums sums =
      evaluate(*model_, loss_, *data_.evaluation, team(),
               asynchronous() ? ReductionTree(tree_.leaves(), 1) : tree_, config_.evaluation.batch);
  EvaluationReport report{
      .step = done, .samples = static_cast<std::int64_t>(sums.samples), .loss = sums.mean_loss()};
  if (data_.train->target().classes > 0) {
    report.accuracy = sums.accuracy();
  } else {
    report.r2 = sums.r2();
  }
  summary_.evaluation = report;
  observer_.on_evaluation(report);
  if (metrics_) metrics_->write(report);
  reported_ = Clock::now();
  samples_ = 0;
}

void TrainingRun::save(std::int64_t done) {
  if (auto* relaxed = strategy_->relaxed()) relaxed->gather_state(*optimizer_);
  const auto pieces = own_pieces(shards_, *optimizer_, *strategy_, *model_, first_rank());
  save_checkpoint(directory_.checkpoints(), team(), {.step = done, .metadata = order()}, pieces,
                  static_cast<int>(config_.checkpoint.keep));
  observer_.on_checkpoint(directory_.checkpoints() / fmt::format("step-{}", done));
}

void TrainingRun::save_own(std::int64_t done) {
  if (strategy_->relaxed() == nullptr) return;
  const std::vector<Piece> pieces = pieces_of(strategy_->relaxed()->local_state());
  if (pieces.empty()) return;
  save_checkpoint(directory_.own_checkpoints(world_.rank()), *alone_,
                  {.step = done, .metadata = order()}, pieces,
                  static_cast<int>(config_.checkpoint.keep));
}

void TrainingRun::save_final_model() {
  if (first_rank()) {
    save_model(directory_.model(), model_->tensors());
    if (data_.statistics) save_model(directory_.standardization(), tensors_of(*data_.statistics));
  }
  team().barrier();
}

void rehearse(const Config& config, int ranks) {
  check(config, ranks);
  const auto alone = self_communicator();
  const ReductionTree tree(virtual_workers_of(config, ranks), 1);
  const DataSets data = open_data(config, *alone, tree);
  make_loss(data.train->target(), config.training.loss);
  model_of(config, *data.train);
}

RunSummary train(const Config& config, Communicator& world, Observer& observer, bool resume) {
  at::set_num_threads(static_cast<int>(std::max<std::int64_t>(1, config.training.threads)));
  check(config, world.size());
  const Config resolved = with_measured_shares(config, world);
  return TrainingRun(resolved, world, observer, resume).run();
}

}  // namespace trireme
