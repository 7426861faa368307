#include "trireme/parallel/local_steps.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "trireme/base/error.h"
#include "trireme/parallel/flat_parameters.h"
#include "trireme/parallel/group_notes.h"
#include "trireme/parallel/outer_optimizer.h"
#include "trireme/parallel/rank_groups.h"
#include "trireme/parallel/synchronise.h"

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
          "outer_momentum must be from 0 up to but without 1", options.outer_momentum);
  require(options.fragments >= 1 && options.fragments <= options.steps,
          "fragments must be from 1 to steps", options.fragments);
  require(options.delay >= 0 && options.delay < options.steps,
          "delay must be from 0 up to but without steps", options.delay);
  require(options.mix >= 0 && options.mix < 1, "mix must be from 0 up to but without 1",
          options.mix);
}

class LocalSteps final : public Strategy {
 public:
  LocalSteps(Communicator& world, const LocalStepsOptions& options)
      : world_(world), options_(options), tree_(tree_of(options.world, world.size())) {
    check(options_);
  }

  std::span<Shard> attach(const NamedTensors& model) override {
    make_contiguous(model);
    broadcast_from_first_rank(world_, model);
    groups_.emplace(world_, tree_, options_.group_size);
    StrategyOptions inside = options_.world;
    inside.virtual_workers = static_cast<int>(groups_->virtual_workers().size());
    inside.shares = groups_->shares();
    inside.compression = {};
    inner_ = replicated(groups_->inside(), inside);
    const std::span<Shard> shards = inner_->attach(model);
    parameters_ = FlatParameters(model);
    std::vector<Range> ranges;
    for (int f = 0; f < options_.fragments; ++f) {
      ranges.push_back(partition(parameters_.size(), options_.fragments, f));
      fragments_.push_back({.index = static_cast<std::size_t>(f),
                            .range = ranges.back(),
                            .offset = std::int64_t{options_.steps} * f / options_.fragments,
                            .notes = GroupNotes(f == 0 ? model.buffers : no_buffers())});
    }
    all_notes_ = GroupNotes(model.buffers);
    if (leads()) {
      outer_.emplace(*groups_->leaders(), parameters_, std::move(ranges),
                     OuterOptimizer::Options{.lr = options_.outer_lr,
                                             .momentum = options_.outer_momentum,
                                             .weight = groups_->weight(),
                                             .compression = options_.world.compression});
    }
    return shards;
  }

  void begin(int backward_passes) override {
    // Not before: a checkpoint may have been loaded since attach().
    if (outer_ && !begun_) outer_->remember();
    begun_ = true;
    flag_ = false;
    if (leads()) groups_->leaders()->progress();
    inner_->begin(backward_passes);
  }

  Range virtual_workers() const override { return tree_.leaves_of(world_.rank()); }

  void add_loss(double loss) override { inner_->add_loss(loss); }
  void raise_flag() override { inner_->raise_flag(); }
  bool flag_raised() const override { return flag_; }

  void reduce_gradients() override {
    inner_->reduce_gradients();
    loss_ = inner_->loss();
    flag_waits_ = flag_waits_ || inner_->flag_raised();
  }

  double loss() const override { return loss_; }
  double gradient_norm() override { return inner_->gradient_norm(); }
  bool shards_are_whole() const override { return true; }

  void publish_parameters() override {
    inner_->publish_parameters();
    ++step_;
    in_step_ = false;
    for (Fragment& fragment : fragments_) {
      if (fragment.under_way && due(fragment, options_.delay)) receive(fragment);
      if (!due(fragment, 0)) continue;
      send(fragment);
      if (options_.delay == 0) receive(fragment);
    }
    if ((asked_ || flag_) && !in_step_) come_together();
    asked_ = false;
  }

  bool is_in_step() const override { return in_step_; }
  void ask_to_be_in_step() override { asked_ = true; }
  void wait_to_be_in_step() override {
    if (!is_ever_in_step()) asked_ = true;
  }

  Group group() const override { return {groups_->index(), leads()}; }

  Traffic traffic() const override {
    Traffic traffic = groups_->inside().traffic() + inner_->traffic();
    if (leads()) traffic += groups_->leaders()->traffic();
    return traffic;
  }

  std::vector<State> state() override {
    std::vector<State> state;
    state.push_back({.name = "step",
                     .region = Region({1}),
                     .values = buffer_of(std::span(&step_, 1)),
                     .is_written = world_.rank() == 0});
    if (outer_) {
      for (State& piece : outer_->state()) state.push_back(std::move(piece));
    }
    for (State& piece : state) piece.name.insert(0, "local_steps.");
    return state;
  }

 private:
  struct Fragment {
    std::size_t index = 0;
    Range range;
    std::int64_t offset = 0;
    GroupNotes notes;
    bool under_way = false;
    Work values = {}, told = {};  // the leaders'
  };

  static std::vector<NamedTensor> no_buffers() { return {}; }
  bool leads() const { return groups_->leaders() != nullptr; }
  double kept() const { return options_.delay == 0 ? 0 : options_.mix; }
  bool is_ever_in_step() const { return options_.fragments == 1 && kept() == 0; }

  bool due(const Fragment& fragment, int delay) const {
    const std::int64_t steps = step_ - fragment.offset - delay;
    return steps > 0 && steps % options_.steps == 0;
  }

  void send(Fragment& fragment) {
    fragment.under_way = true;
    if (leads()) {
      fragment.values = outer_->start(fragment.index, step_);
      fragment.told =
          fragment.notes.start(*groups_->leaders(), flag_waits_, loss_, groups_->weight());
    }
    flag_waits_ = false;
  }

  void receive(Fragment& fragment) {
    fragment.under_way = false;
    if (leads()) {
      fragment.values.wait();
      fragment.told.wait();
      outer_->apply(fragment.index, kept());
    }
    share(fragment.range, fragment.notes, kept());
    in_step_ = is_ever_in_step();
    if (in_step_ && options_.delay == 0) loss_ = fragment.notes.loss();
  }

  void come_together() {
    for (Fragment& fragment : fragments_) {
      if (fragment.under_way) receive(fragment);
    }
    if (leads()) {
      Work values = outer_->start_mean();
      Work told = all_notes_.start(*groups_->leaders(), flag_waits_, loss_, groups_->weight());
      values.wait();
      told.wait();
      outer_->apply_mean();
    }
    flag_waits_ = false;
    share({0, parameters_.size()}, all_notes_, 0);
    loss_ = all_notes_.loss();
    in_step_ = true;
  }

  // What the leader has to the rest of its group.
  void share(Range range, GroupNotes& notes, double kept) {
    Communicator& inside = groups_->inside();
    if (inside.size() > 1) {
      for (const at::Tensor& part : parameters_.parts(range)) {
        inside.broadcast(host_buffer_of(part), 0).wait();
      }
      inside.broadcast(notes.values(), 0).wait();
    }
    notes.apply(kept);
    flag_ = flag_ || notes.flag();
  }

  Communicator& world_;
  LocalStepsOptions options_;
  ReductionTree tree_;  // of the world
  std::optional<RankGroups> groups_;
  std::unique_ptr<Strategy> inner_;
  FlatParameters parameters_;
  std::optional<OuterOptimizer> outer_;  // the leaders'
  std::vector<Fragment> fragments_;      // after what their Work uses
  GroupNotes all_notes_;

  std::int64_t step_ = 0;
  bool begun_ = false;
  bool in_step_ = true;
  bool asked_ = false;
  bool flag_waits_ = false;  // raised in this group, not yet sent
  bool flag_ = false;
  double loss_ = 0;
};

}  // namespace

std::unique_ptr<Strategy> local_steps(Communicator& world, LocalStepsOptions options) {
  return std::make_unique<LocalSteps>(world, options);
}

}  // namespace trireme
