#include "trireme/train/trainer.h"

#include <ATen/Parallel.h>
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <utility>
#include <variant>

#include "trireme/base/error.h"
#include "trireme/base/text.h"
#include "trireme/formats/printable.h"
#include "trireme/optim/clip.h"
#include "trireme/parallel/make_strategy.h"
#include "trireme/parallel/relaxed_consistency.h"
#include "trireme/train/components.h"
#include "trireme/train/divergence.h"

namespace trireme {

namespace {

using SteadyClock = std::chrono::steady_clock;

// How matrices are multiplied in mixed precision.
std::string words_of(const plan::Precision& precision) {
  if (precision.compute == precision.storage) return "";
  const std::string_view type = name_of(precision.compute);
  if (precision.has_bf16_products) return fmt::format("matrices are multiplied in {}", type);
  return fmt::format(
      "matrices are rounded to {} and multiplied in f32{}", type,
      precision.compute == DType::kBF16 ? ", as this processor has no bf16 products" : "");
}

double seconds_between(SteadyClock::time_point from, SteadyClock::time_point to) {
  return std::chrono::duration<double>(to - from).count();
}

bool divides_parameters(const plan::RunPlan& plan) {
  const auto* const sharded = std::get_if<plan::Sharded>(&plan.data_parallel);
  return sharded != nullptr && sharded->stage == 3;
}

std::int64_t last_step_of(const Config& config, const Sampler& sampler) {
  if (config.training.steps > 0) return config.training.steps;
  return config.training.epochs * sampler.steps_per_epoch();
}

}  // namespace

Trainer::Trainer(const Config& config, const plan::RunPlan& plan, Communicator& world)
    : config_(config),
      plan_(on_processors_of(world, plan)),
      world_(world),
      mesh_(mesh_of(plan.mesh, world)),
      tree_(tree_of(plan)),
      data_(open_data(config_, plan, world, tree_)),
      loss_(loss_of(config, *data_.train)),
      model_files_(read_model_files(config_, world)),
      model_(model_of(config, plan_, *data_.train, mesh_, divides_parameters(plan))),
      strategy_(make_strategy(plan, world)),
      saving_group_(world, *strategy_, tree_),
      optimizer_(optimizer_of(plan, strategy_->attach(*model_))),
      runner_(*model_, loss_, *strategy_, static_cast<std::uint64_t>(config.training.seed)),
      last_step_(last_step_of(config, *data_.sampler)),
      lr_schedule_(schedule_of(plan, last_step_)) {
  model_->train(true);
  if (plan.precision.stochastic_rounding) {
    optimizer_->set_stochastic_rounding(static_cast<std::uint64_t>(config.training.seed));
  }
  if (plan.precision.compute == DType::kF16) {
    loss_scale_.emplace(plan.precision.loss_scale, plan.precision.loss_scale_growth_steps);
  }
}

double Trainer::next_lr(std::int64_t last_step) const {
  const auto next = std::min(steps_done_ - skipped_.in_all, last_step - 1);
  return schedule_of(plan_, last_step)->lr_at(next);
}

void Trainer::continue_after(std::int64_t done, SkippedSteps skipped,
                             const std::optional<LossScale::State>& loss_scale) {
  steps_done_ = done;
  skipped_ = skipped;
  if (loss_scale_ && loss_scale) loss_scale_->restore(*loss_scale);
  loader_.reset();
}

StepBatches Trainer::next_batches() {
  if (!loader_) {
    loader_ = std::make_unique<Loader>(*data_.train, *data_.sampler, strategy_->virtual_workers(),
                                       Range{steps_done_, last_step_},
                                       LoaderOptions{prefetch_steps_of(config_, world_.size())});
  }
  return *loader_->next();
}

TrainedStep Trainer::step(const StepRequest& request) {
  if (steps_done_ >= last_step_) {
    throw UsageError(
        fmt::format("trainer: all {} are done; step() must be called only while "
                    "steps_done() < last_step()",
                    counted(last_step_, "step")));
  }
  const auto start = SteadyClock::now();
  const Traffic before = traffic();
  TrainedStep done{.step = steps_done_ + 1};
  const StepBatches batches = next_batches();
  const auto loaded = SteadyClock::now();
  const auto count = static_cast<int>(batches.batches.size());
  if (micro_batches_.stages.empty() || count * 2 != std::ssize(micro_batches_.stages.front())) {
    micro_batches_ = plan::single_stage(count);
  }
  if (loss_scale_) done.loss_scale = loss_scale_->value();
  runner_.run(batches, micro_batches_, request.stop, done.loss_scale.value_or(1));
  const auto computed = SteadyClock::now();
  const GradientReport report = strategy_->reduce_gradients();
  const auto reduced = SteadyClock::now();
  std::string overflowed;
  if (!report.is_finite || !clip(done, request)) {
    overflowed = overflow(report);
    done.skipped = overflowed.empty() ? reject(done.step, report, batches) : overflowed;
  }
  done.lr = request.lr.value_or(lr_schedule_->lr_at(steps_done_ - skipped_.in_all));
  optimizer_->set_lr(done.lr);
  const auto clipped = SteadyClock::now();
  const StepResult result = done.skipped.empty()
                                ? strategy_->update(*optimizer_, request.sync)
                                : strategy_->skip_update(*optimizer_, request.sync);
  const auto end = SteadyClock::now();

  ++steps_done_;
  if (!done.skipped.empty()) ++skipped_.in_all;
  if (overflowed.empty()) {
    skipped_.in_a_row = done.skipped.empty() ? 0 : skipped_.in_a_row + 1;
    if (loss_scale_ && done.skipped.empty()) loss_scale_->count();
  } else {
    loss_scale_->fall();
  }
  done.loss = result.loss;
  done.stop = result.stop;
  done.synchronized = result.synchronized;
  done.samples = batches.samples;
  done.seconds = seconds_between(start, end);
  done.data_seconds = seconds_between(start, loaded);
  done.communication_seconds = seconds_between(computed, reduced);
  done.arrived = seconds_between(SteadyClock::time_point(), computed);
  // Groups and servers exchange parameters inside the update.
  if (strategy_->relaxed() != nullptr) done.communication_seconds += seconds_between(clipped, end);
  done.compute_seconds = done.seconds - done.data_seconds - done.communication_seconds;
  done.traffic = traffic() - before;
  if (result.skipped_steps > 0) skip(result.skipped_steps, done);
  return done;
}

// Returns false if the norm is not finite.
bool Trainer::clip(TrainedStep& step, const StepRequest& request) {
  const double limit = config_.training.clip_norm;
  if (!request.measure_norm && limit == 0) return true;
  const double norm = strategy_->gradient_norm();
  if (!std::isfinite(norm)) return false;
  if (limit > 0) optimizer_->set_gradient_scale(clip_scale(norm, limit));
  if (request.measure_norm) step.gradient_norm = norm;
  return true;
}

// Returns "" unless a smaller loss scale may help. What a report says is the same on all ranks.
std::string Trainer::overflow(const GradientReport& report) const {
  if (!loss_scale_ || !loss_scale_->can_fall() || !std::isfinite(report.loss)) return "";
  return fmt::format("gradients overflowed f16 with a loss scale of {:.0f}", loss_scale_->value());
}

// Returns what is wrong with the step, if it may be skipped.
std::string Trainer::reject(std::int64_t step, const GradientReport& report,
                            const StepBatches& batches) {
  std::string what = trireme::describe({.step = step, .report = report, .batches = batches},
                                       *data_.sampler, *strategy_, world_);
  const bool may_skip = config_.training.on_nonfinite == "skip";
  if (may_skip && skipped_.in_a_row + 1 < config_.training.max_skipped_steps) return what;
  throw DivergedError(fmt::format(
      "training diverged: {}{}. The parameters are those before the step. Try a smaller "
      "optimizer.lr, training.clip_norm or lr_scheduler.warmup_steps",
      what,
      may_skip ? fmt::format("; {} in a row would be skipped (training.max_skipped_steps)",
                             counted(skipped_.in_a_row + 1, "step"))
               : ""));
}

void Trainer::require_finite_state() {
  trireme::require_finite_state(steps_done_, optimizer_.get(), *strategy_,
                                saving_group_.communicator());
}

// The samples of skipped steps are read all the same, in order.
void Trainer::skip(std::int64_t steps, TrainedStep& step) {
  steps = std::min(steps, last_step_ - steps_done_);
  if (steps == 0) return;
  for (; steps > 0; --steps, ++steps_done_) next_batches();
  if (steps_done_ < last_step_) return;
  strategy_->relaxed()->synchronize();
  step.synchronized = true;
}

Traffic Trainer::traffic() const {
  const RelaxedConsistency* const relaxed = strategy_->relaxed();
  const Traffic own = world_.traffic() + strategy_->traffic();
  return relaxed != nullptr ? own + relaxed->traffic() : own;
}

void Trainer::communicate() {
  strategy_->begin({.passes = 0});
  strategy_->reduce_gradients();
  strategy_->update(*optimizer_);
}

RunDescription Trainer::describe() const {
  std::vector<std::int64_t> assignment;
  for (int rank = 0; rank < tree_.ranks(); ++rank) {
    assignment.push_back(tree_.virtual_workers_of(rank).size());
  }
  std::int64_t parameters = 0;
  for (const auto& [name, tensor] : model_->tensors().parameters) parameters += tensor.numel();
  RunDescription run{.model = config_.model.name,
                     .parameters = parameters,
                     .samples = data_.train->size(),
                     .evaluation_samples = data_.evaluation ? data_.evaluation->size() : 0,
                     .ranks = world_.size(),
                     .communication = world_.description(),
                     .threads = at::get_num_threads(),
                     .precision = words_of(plan_.precision),
                     .virtual_workers = tree_.virtual_workers(),
                     .assignment = std::move(assignment),
                     .first_step = steps_done_,
                     .steps = last_step_,
                     .steps_per_epoch = data_.sampler->steps_per_epoch(),
                     .global_batch = config_.training.global_batch,
                     .data_digest = data_.digest.value,
                     .digest_covers = data_.digest.covers};
  if (data_.train->target().kind == Target::Kind::kTokens) {
    run.tokens_per_sample = data_.train->target().length;
  }
  if (data_.schema) {
    for (const std::string& column : data_.schema->columns()) {
      run.columns.push_back(printable(column));
    }
    for (const UnusedCsvColumn& column : data_.schema->unused) {
      run.unused_columns.push_back(fmt::format("{} ({})", printable(column.name), column.reason));
    }
    run.dropped_rows = data_.schema->dropped_rows;
    run.trimmed_labels = data_.schema->trimmed_labels;
  }
  return run;
}

}  // namespace trireme
