#include "trireme/parallel/local_steps.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "trireme/base/error.h"
#include "trireme/model/model.h"
#include "trireme/parallel/flat_parameters.h"
#include "trireme/parallel/gradients/group_metadata.h"
#include "trireme/parallel/gradients/whole_gradients.h"
#include "trireme/parallel/outer_optimizer.h"
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
    bool in_flight = false;
    Work values = {}, told = {};  // of the leader
  };

  std::span<Shard> attach_model(Model& model) override {
    const NamedTensors tensors = model.tensors();
    broadcast_from_first_rank(world_, tensors);
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
    all_metadata_ = GroupMetadata(tensors.buffers, options_.world.buffers);
    if (leads()) {
      outer_.emplace(*groups_->leaders(), parameters_, std::move(ranges),
                     OuterOptimizer::Options{.lr = options_.outer_lr,
                                             .momentum = options_.outer_momentum,
                                             .weight = groups_->weight(),
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
    if (!begun_) begin_run();
    begun_ = true;
    stop_ = false;
    if (leads()) groups_->leaders()->progress();
    return gradients_->begin(shape, weight_of_group(shape));
  }

  void begin_run() {
    if (outer_) outer_->snapshot();
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
    if (outer_) {
      for (State& tensor : outer_->state()) state.push_back(std::move(tensor));
    }
    for (State& tensor : state) tensor.name.insert(0, "local_steps.");
    return state;
  }

  StepResult finish_step(const StepEnd& end) override {
    if (end.optimizer != nullptr && !end.is_skipped) end.optimizer->step();
    gradients_->end_step(end.is_skipped);
    ++step_;
    synchronized_ = false;
    for (Fragment& fragment : fragments_) {
      if (fragment.in_flight && due(fragment, options_.delay)) receive(fragment);
      if (!due(fragment, 0)) continue;
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

  bool due(const Fragment& fragment, int delay) const {
    const std::int64_t steps = step_ - fragment.offset - delay;
    return steps > 0 && steps % options_.steps == 0;
  }

  void send(Fragment& fragment) {
    fragment.in_flight = true;
    if (leads()) {
      fragment.values = outer_->start(fragment.index, step_);
      fragment.told = fragment.metadata.start(*groups_, stop_pending_, loss_);
    }
    stop_pending_ = false;
  }

  void receive(Fragment& fragment) {
    fragment.in_flight = false;
    if (leads()) {
      fragment.values.wait();
      fragment.told.wait();
      outer_->apply(fragment.index, alpha());
    }
    share(fragment.range, fragment.metadata, alpha());
    synchronized_ = synchronizes_by_itself();
    if (synchronized_ && options_.delay == 0) loss_ = fragment.metadata.loss();
  }

  // The plain mean of all groups, in which nothing is kept.
  void average_groups() {
    for (Fragment& fragment : fragments_) {
      if (fragment.in_flight) receive(fragment);
    }
    if (leads()) {
      Work values = outer_->start_mean();
      Work told = all_metadata_.start(*groups_, stop_pending_, loss_);
      values.wait();
      told.wait();
      outer_->apply_mean();
    }
    stop_pending_ = false;
    share({0, parameters_.size()}, all_metadata_, 0);
    loss_ = all_metadata_.loss();
    synchronized_ = true;
  }

  // Brings what the leader has received to the rest of its group.
  void share(Range range, GroupMetadata& metadata, double alpha) {
    Communicator& inside = groups_->inside();
    if (inside.size() > 1) {
      for (const at::Tensor& part : parameters_.parts(range)) {
        inside.broadcast(host_buffer_of(part), 0).wait();
      }
    }
    metadata.finish(*groups_, alpha);
    stop_ = stop_ || metadata.stop();
  }

  Communicator& world_;
  LocalStepsOptions options_;
  ReductionTree tree_;  // of the world
  std::optional<RankGroups> groups_;
  std::optional<WholeGradients> gradients_;
  FlatParameters parameters_;
  std::optional<OuterOptimizer> outer_;  // of the leader
  std::vector<Fragment> fragments_;      // after what their Work uses
  GroupMetadata all_metadata_;

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
