#include "trireme/parallel/local_steps.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <iterator>
#include <optional>
#include <utility>

#include "trireme/base/error.h"
#include "trireme/model/model.h"
#include "trireme/parallel/flat_parameters.h"
#include "trireme/parallel/gradients/group_metadata.h"
#include "trireme/parallel/gradients/whole_gradients.h"
#include "trireme/parallel/outer_optimizer.h"
#include "trireme/parallel/own_values.h"
#include "trireme/parallel/rank_groups.h"
#include "trireme/parallel/relaxed_consistency.h"
#include "trireme/parallel/synchronize.h"

namespace trireme {

namespace {

void check(const LocalStepsOptions& options) {
  const auto require = [](bool good, const char* what, auto got) {
    if (!good) throw UsageError(fmt::format("local_steps: {}, got {}", what, got));
  };
  require(options.group_size >= 0, "group_size must not be negative", options.group_size);
  require(options.steps >= 1, "steps must be 1 or more", options.steps);
  require(options.outer_lr > 0, "outer_lr must be above 0", options.outer_lr);
  require(options.outer_momentum >= 0 && options.outer_momentum < 1,
          "outer_momentum must be in [0, 1)", options.outer_momentum);
  require(options.fragments >= 1 && options.fragments <= options.steps,
          "fragments must be in [1, steps]", options.fragments);
  require(options.delay >= 0 && options.delay < options.steps, "delay must be in [0, steps)",
          options.delay);
  require(options.mix >= 0 && options.mix < 1, "mix must be in [0, 1)", options.mix);
}

class LocalSteps final : public Strategy, public RelaxedConsistency {
 public:
  LocalSteps(Communicator& world, LocalStepsOptions options)
      : Strategy({.name = "local_steps", .sets_grad = true, .whole_shards = true}),
        world_(world),
        options_(std::move(options)),
        tree_(tree_of(options_.world, world.size())) {
    check(options_);
  }

  Range virtual_workers() const override { return tree_.virtual_workers_of(world_.rank()); }

  RelaxedConsistency* relaxed() override { return this; }
  bool asynchronous() const override { return false; }
  Group group() const override {
    require_attached("group");
    return {groups_->index(), leads()};
  }
  Communicator& step_ranks() override {
    require_attached("step_ranks");
    return groups_->inside();
  }

  void synchronize() override {
    require_between_steps("synchronize");
    if (!synchronized_) average_groups();
  }

  Traffic traffic() const override {
    if (!groups_) return {};
    Traffic traffic = groups_->inside().traffic();
    if (leads()) traffic += groups_->leaders()->traffic();
    return traffic;
  }

 private:
  struct Fragment {
    std::size_t index = 0;
    Range range;
    std::int64_t offset = 0;
    GroupMetadata metadata;
    Work values = {}, told = {};  // of the leader
    bool has_arrived = false;     // and is not applied yet
  };

  std::span<Shard> attach_model(Model& model) override {
    broadcast_from_first_rank(world_, model);
    const NamedTensors tensors = model.tensors();
    groups_.emplace(world_, tree_, options_.group_size);
    StrategyOptions inside = options_.world;
    inside.virtual_workers = static_cast<int>(groups_->virtual_workers().size());
    inside.shares = groups_->shares();
    inside.compression = {};
    gradients_.emplace(groups_->inside(), tensors, inside);
    parameters_ = FlatParameters(tensors);
    std::vector<Range> ranges;
    for (int f = 0; f < options_.fragments; ++f) {
      ranges.push_back(partition(parameters_.size(), options_.fragments, f));
      fragments_.push_back({.index = static_cast<std::size_t>(f),
                            .range = ranges.back(),
                            .offset = std::int64_t{options_.steps} * f / options_.fragments,
                            .metadata = GroupMetadata(f == 0 ? tensors.buffers : no_buffers(),
                                                      options_.world.buffers)});
    }
    arrivals_.resize(fragments_.size());
    all_metadata_ = GroupMetadata(tensors.buffers, options_.world.buffers);
    if (!synchronizes_by_itself()) own_.emplace(parameters_, tensors.buffers);
    if (leads()) {
      outer_.emplace(*groups_->leaders(), parameters_, std::move(ranges),
                     OuterOptimizer::Options{.lr = options_.outer_lr,
                                             .momentum = options_.outer_momentum,
                                             .weight = groups_->weight(),
                                             .saves_agreed = own_.has_value(),
                                             .compression = options_.world.compression});
    }
    return gradients_->shards();
  }

  GradientSink& begin_step(const StepShape& shape) override {
    // Not before: a checkpoint may have been loaded since attach().
    if (begun_ && shape.changed_values != 0) {
      throw UsageError(
          "strategy local_steps: begin(): parameters were changed between two steps, and groups of "
          "ranks would exchange the change as if it were learnt; load before the first step");
    }
    begin_exchanges();
    begun_ = true;
    stop_ = false;
    if (leads()) groups_->leaders()->progress();
    return gradients_->begin(shape, weight_of_group(shape));
  }

  void begin_exchanges() {
    const bool shows_mean = own_ && own_->are_kept();
    if (begun_ && !shows_mean) return;
    if (!begun_ && outer_ && !(shows_mean && outer_->has_agreed())) outer_->snapshot();
    for (Fragment& fragment : fragments_) fragment.has_arrived = in_flight(fragment);
    if (shows_mean) own_->bring_back();
    for (Fragment& fragment : fragments_) fragment.metadata.begin();
    all_metadata_.begin();
  }

  // A group averages over its own virtual workers: their part of the weight.
  double weight_of_group(const StepShape& shape) const {
    const auto own = static_cast<double>(groups_->virtual_workers().size());
    return shape.weight > 0 ? shape.weight * own / tree_.virtual_workers() : own;
  }

  GradientReport finish_gradients() override {
    const GradientReport report = gradients_->reduce();
    loss_ = report.loss;
    stop_pending_ = stop_pending_ || gradients_->stop();
    return report;
  }

  double compute_gradient_norm() override { return gradients_->norm(); }

  std::vector<State> own_state() override {
    std::vector<State> state;
    state.push_back({.name = "step",
                     .region = Region({1}),
                     .values = buffer_of(std::span(&step_, 1)),
                     .is_written = world_.rank() == 0});
    if (outer_) append(outer_->state(), state);
    if (own_) append_streaming_state(state);
    for (State& tensor : state) tensor.name.insert(0, "local_steps.");
    return state;
  }

  StepResult finish_step(const StepEnd& end) override {
    if (end.optimizer != nullptr && !end.is_skipped) end.optimizer->step();
    gradients_->end_step(end.is_skipped);
    ++step_;
    synchronized_ = false;
    for (Fragment& fragment : fragments_) {
      const bool sends = due(fragment);
      // A run that was resumed with another delay may be late.
      if (in_flight(fragment) && (sends || step_ >= arrival(fragment))) receive(fragment);
      if (!sends) continue;
      send(fragment);
      if (options_.delay == 0) receive(fragment);
    }
    const bool requested =
        end.sync == Sync::kNow || (end.sync == Sync::kIfFree && !synchronizes_by_itself());
    if ((requested || stop_) && !synchronized_) average_groups();
    return {.loss = loss_, .stop = stop_, .synchronized = synchronized_};
  }

  static std::vector<NamedTensor> no_buffers() { return {}; }
  bool leads() const { return groups_->leaders() != nullptr; }
  // The part of its own values that a group keeps.
  double alpha() const { return options_.delay == 0 ? 0 : options_.mix; }
  bool synchronizes_by_itself() const { return options_.fragments == 1 && alpha() == 0; }

  bool due(const Fragment& fragment) const {
    const std::int64_t steps = step_ - fragment.offset;
    return steps > 0 && steps % options_.steps == 0;
  }

  std::int64_t& arrival(const Fragment& fragment) { return arrivals_[fragment.index]; }
  bool in_flight(const Fragment& fragment) const { return arrivals_[fragment.index] != 0; }

  void send(Fragment& fragment) {
    arrival(fragment) = step_ + options_.delay;
    if (leads()) {
      fragment.values = outer_->start(fragment.index, step_);
      fragment.told = fragment.metadata.start(*groups_, stop_pending_, loss_);
    }
    stop_pending_ = false;
  }

  // Waits for what is under way, which takes effect later.
  void collect(Fragment& fragment) {
    if (fragment.has_arrived) return;
    if (leads()) {
      fragment.values.wait();
      fragment.told.wait();
      outer_->finish(fragment.index);
    }
    fragment.metadata.receive(*groups_);
    fragment.has_arrived = true;
  }

  void receive(Fragment& fragment) {
    collect(fragment);
    arrival(fragment) = 0;
    fragment.has_arrived = false;
    if (leads()) outer_->apply(fragment.index, alpha());
    share(fragment.range);
    apply(fragment.metadata, alpha());
    synchronized_ = synchronizes_by_itself();
    if (synchronized_ && options_.delay == 0) loss_ = fragment.metadata.loss();
  }

  // The plain mean of all groups. In the streaming form the model only shows it until the next step
  // begins, and what is under way stays so; else nothing is kept.
  void average_groups() {
    for (Fragment& fragment : fragments_) {
      if (!in_flight(fragment)) continue;
      own_ ? collect(fragment) : receive(fragment);
    }
    if (own_) {
      own_->keep();
      fragments_.front().metadata.note_changes();
      all_metadata_.note_changes();
    }
    if (leads()) {
      Work told = all_metadata_.start(*groups_, stop_pending_, loss_);
      for (const Fragment& fragment : fragments_) {
        outer_->average(fragment.index, in_flight(fragment));
      }
      told.wait();
      if (!own_) outer_->snapshot();
    }
    stop_pending_ = false;
    share({0, parameters_.size()});
    all_metadata_.receive(*groups_);
    if (own_) own_->note(all_metadata_);
    apply(all_metadata_, 0);
    loss_ = all_metadata_.loss();
    synchronized_ = true;
  }

  // Brings the parameters of the leader to the rest of its group.
  void share(Range range) {
    Communicator& inside = groups_->inside();
    if (inside.size() == 1) return;
    for (const at::Tensor& part : parameters_.parts(range)) {
      inside.broadcast(host_buffer_of(part), 0).wait();
    }
  }

  void apply(GroupMetadata& metadata, double alpha) {
    metadata.apply(alpha);
    stop_ = stop_ || metadata.stop();
  }

  static void append(std::vector<State> more, std::vector<State>& state) {
    std::ranges::move(more, std::back_inserter(state));
  }

  // A checkpoint shows the mean of the groups: what each of them trains, and what is under way
  // between them, belongs to this number of groups and fragments.
  void append_streaming_state(std::vector<State>& state) {
    const std::string groups = fmt::format("of_{}.", groups_->count());
    append(own_->state(*groups_, groups + "own."), state);
    append(all_metadata_.state(*groups_, groups + "mean."), state);
    const std::string fragments = fmt::format("{}in_flight.of_{}.", groups, fragments_.size());
    const bool is_first = world_.rank() == 0;
    state.push_back({.name = fragments + "arrivals",
                     .region = Region({std::ssize(arrivals_)}),
                     .values = buffer_of(std::span(arrivals_)),
                     .is_written = is_first});
    append(fragments_.front().metadata.state(*groups_, fragments + "buffers."), state);
    if (!outer_) return;
    state.push_back({.name = fragments + "parameters",
                     .region = Region({parameters_.size()}),
                     .values = outer_->finished(),
                     .is_written = is_first && std::ranges::any_of(arrivals_, std::identity())});
  }

  Communicator& world_;
  LocalStepsOptions options_;
  ReductionTree tree_;  // of the world
  std::optional<RankGroups> groups_;
  std::optional<WholeGradients> gradients_;
  FlatParameters parameters_;
  std::optional<OuterOptimizer> outer_;  // of the leader
  std::vector<Fragment> fragments_;      // after what their Work uses
  std::vector<std::int64_t> arrivals_;   // the step after which each takes effect; 0: not in flight
  GroupMetadata all_metadata_;
  std::optional<OwnValues> own_;  // of the streaming form

  std::int64_t step_ = 0;
  bool begun_ = false;
  bool synchronized_ = true;
  bool stop_pending_ = false;  // requested in this group, not sent yet
  bool stop_ = false;
  double loss_ = 0;
};

}  // namespace

std::unique_ptr<Strategy> local_steps(Communicator& world, LocalStepsOptions options) {
  return std::make_unique<LocalSteps>(world, std::move(options));
}

}  // namespace trireme
