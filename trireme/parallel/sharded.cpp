#include "trireme/parallel/sharded.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <malloc.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <vector>

#include "trireme/base/error.h"
#include "trireme/model/model.h"
#include "trireme/parallel/gradient_norm.h"
#include "trireme/parallel/gradients/step_gradients.h"
#include "trireme/parallel/rank_groups.h"
#include "trireme/parallel/sharded/parameter_store.h"
#include "trireme/parallel/sharded/units.h"
#include "trireme/parallel/synchronize.h"

namespace trireme {

namespace {

// True on all ranks, or on none.
bool share_memory(Communicator& ranks) {
  const Memory probe = ranks.allocate(1);
  std::int64_t all = 1;
  for (int rank = 0; rank < ranks.size(); ++rank) {
    if (probe.peer(rank) == nullptr) all = 0;
  }
  ranks.all_reduce(buffer_of(std::span(&all, 1)), ReduceOp::kMin).wait();
  return all == 1;
}

class Sharded final : public Strategy {
 public:
  Sharded(Communicator& world, ShardingOptions sharding, StrategyOptions options)
      : Strategy({.name = "sharded", .whole_shards = world.size() == 1}),
        world_(world),
        sharding_(sharding),
        options_(std::move(options)),
        tree_(tree_of(options_, world.size())) {
    if (sharding_.stage < 1 || sharding_.stage > 3) {
      throw UsageError(
          fmt::format("strategy sharded: stage must be 1, 2 or 3, got {}; 0 is strategy replicated",
                      sharding_.stage));
    }
    require_no_codec(options_, "sharded", "ranks receive parts of the summed gradients");
  }

  Range virtual_workers() const override { return tree_.virtual_workers_of(world_.rank()); }

 private:
  std::span<Shard> attach_model(Model& model) override {
    broadcast_fixed_tensors(world_, model);
    const NamedTensors tensors = model.tensors();
    if (sharding_.within_host) {
      groups_.emplace(world_, tree_, 0);
      add_traffic_of(groups_->inside());
    }
    const bool is_shared = sharding_.stage == 3 && share_memory(group());
    const bool is_gathered = sharding_.stage == 3 && !is_shared;
    if (is_gathered) set_holds_no_parameters();
    if (sharding_.stage < 3) set_copies_parameters();
    gradients_.emplace(world_, tensors, options_,
                       parts_of(model, sharding_, group().size(), group().rank(), is_gathered));
    make_store(model, is_shared, is_gathered);
    cut_shards();
    ::malloc_trim(0);  // gives the memory back in which the parameters were
    return shards_;
  }

  void make_store(Model& model, bool is_shared, bool is_gathered) {
    StoredParameters stored{.initial_values =
                                [&](std::size_t p) {
                                  return values_of_first_rank(
                                      world_, model,
                                      {gradients_->name(p), gradients_->parameter(p)});
                                },
                            .layout = gradients_->layout(),
                            .pieces = gradients_->scatter().pieces(),
                            .ranks = group()};
    for (std::size_t p = 0; p < gradients_->parameters(); ++p) {
      stored.tensors.push_back(gradients_->parameter(p));
      shapes_.push_back(gradients_->parameter(p).sizes().vec());
    }
    if (is_gathered) {
      std::int64_t passes = 0;
      for (int rank = 0; rank < world_.size(); ++rank) {
        passes = std::max(passes, tree_.virtual_workers_of(rank).size());
      }
      gathers_ = world_.split(0, world_.rank());
      add_traffic_of(*gathers_);
      store_ = gathered_parameters(std::move(stored), *gathers_, model, static_cast<int>(passes));
    } else {
      store_ =
          is_shared ? shared_parameters(std::move(stored)) : copied_parameters(std::move(stored));
    }
  }

  // In the order of the parameters, as each rank's norm has its squares in this order.
  void cut_shards() {
    const bool is_written = !groups_ || groups_->index() == 0;
    for (std::size_t p = 0; p < gradients_->parameters(); ++p) {
      const BucketLayout::Slot& slot = gradients_->layout().slots()[p];
      const BucketPieces& pieces = gradients_->scatter().pieces();
      const Range elements = pieces.of(slot, group().rank());
      if (elements.size() > 0) {
        const std::int64_t begin =
            slot.offset + elements.begin - pieces.of(slot.bucket, group().rank()).begin;
        const auto part = [&](const Buffer& piece) { return piece.slice(begin, elements.size()); };
        shards_.push_back({.name = gradients_->name(p),
                           .region = Region(shapes_[p]).slice(elements),
                           .values = part(store_->piece(slot.bucket)),
                           .gradient = {part(gradients_->scatter().sum(slot.bucket)).data},
                           .is_written = is_written});
        parameter_of_.push_back(p);
        first_block_.push_back(blocks_ + elements.begin / kBlock);
      }
      blocks_ += blocks_of(slot.count);
    }
  }

  GradientSink& begin_step(const StepShape& shape) override {
    store_->begin_step();
    gradients_->begin(shape, shape.weight > 0 ? shape.weight : tree_.virtual_workers());
    return *gradients_;
  }

  GradientReport finish_gradients() override {
    store_->end_passes(gradients_->has_own_gradients());
    gradients_->reduce();
    for (std::size_t i = 0; i < shards_.size(); ++i) {
      shards_[i].has_gradient = gradients_->has_gradient(parameter_of_[i]);
    }
    GradientReport report = gradients_->report();
    if (gradients_->may_overflow()) report.is_finite = std::isfinite(compute_gradient_norm());
    return report;
  }

  double compute_gradient_norm() override {
    // One rank of the group has each block and the others add zero: the order of summation has no
    // effect.
    squares_.assign(static_cast<std::size_t>(blocks_), 0.0);
    for (std::size_t i = 0; i < shards_.size(); ++i) {
      own_squares_.clear();
      append_block_squares(std::span(&shards_[i], 1), own_squares_);
      std::ranges::copy(own_squares_, squares_.begin() + first_block_[i]);
    }
    group().all_reduce(buffer_of(std::span(squares_))).wait();
    return norm_of(squares_);
  }

  StepResult finish_step(const StepEnd& end) override {
    if (end.optimizer != nullptr && !end.is_skipped) end.optimizer->step();
    gradients_->end_step(end.is_skipped);
    store_->publish();
    return {.loss = gradients_->loss(), .stop = gradients_->stop()};
  }

  // The ranks among which parameters are divided.
  Communicator& group() { return groups_ ? groups_->inside() : world_; }

  Communicator& world_;
  ShardingOptions sharding_;
  StrategyOptions options_;
  ReductionTree tree_;
  std::optional<RankGroups> groups_;  // within hosts
  std::optional<StepGradients> gradients_;
  std::unique_ptr<Communicator> gathers_;  // they interleave with the reductions of gradients
  std::unique_ptr<ParameterStore> store_;
  std::vector<std::vector<std::int64_t>> shapes_;  // of each parameter
  std::vector<Shard> shards_;
  std::vector<std::size_t> parameter_of_;  // of each shard
  std::vector<std::int64_t> first_block_;  // of each shard, of the blocks of all parameters
  std::int64_t blocks_ = 0;
  std::vector<double> own_squares_;
  std::vector<double> squares_;
};

}  // namespace

std::unique_ptr<Strategy> sharded(Communicator& world, ShardingOptions sharding,
                                  StrategyOptions options) {
  return std::make_unique<Sharded>(world, sharding, std::move(options));
}

}  // namespace trireme
