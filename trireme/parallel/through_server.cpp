#include "trireme/parallel/through_server.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "trireme/base/error.h"
#include "trireme/base/hash.h"
#include "trireme/kernels/reduce.h"
#include "trireme/parallel/gradient_buckets.h"
#include "trireme/parallel/gradient_norm.h"
#include "trireme/parallel/rank_groups.h"
#include "trireme/parallel/synchronise.h"

namespace trireme {

namespace {

using Mode = server::Consistency::Mode;

class ThroughServer final : public Strategy {
 public:
  ThroughServer(Communicator& world, ClientFactory make_client, ThroughServerOptions options)
      : world_(world),
        make_client_(std::move(make_client)),
        options_(std::move(options)),
        tree_(tree_of(options_.world, world.size())) {
    check_options();
    // The rate comes with each push; a declaration that has one would differ with it.
    options_.optimizer.lr.reset();
  }

  std::span<Shard> attach(const NamedTensors& model) override {
    make_contiguous(model);
    broadcast_from_first_rank(world_, model);
    groups_.emplace(world_, tree_, options_.group_size);
    options_.consistency.workers = groups_->count();
    if (Communicator* const workers = groups_->leaders()) client_ = make_client_(*workers);
    make_buckets(model);
    declare();
    move_parameters();
    if (client_) {
      client_->join(declaration_);
      if (world_.rank() == 0 && !client_->servers_have_values()) client_->store(wanted_);
      done_ = client_->clock();
    }
    world_.barrier();  // from here on clocks move
    return shards_;
  }

  void begin(int backward_passes) override {
    if (!has_pulled_) {
      if (client_) client_->pull(wanted_);
      share();
    }
    has_pulled_ = true;
    buckets_->begin(backward_passes);
  }

  Range virtual_workers() const override { return tree_.leaves_of(world_.rank()); }
  void add_loss(double loss) override { buckets_->add_loss(loss); }
  double loss() const override { return buckets_->loss(); }
  void raise_flag() override { buckets_->raise_flag(); }
  bool flag_raised() const override { return buckets_->flag_raised(); }

  void reduce_gradients() override {
    buckets_->finish();
    for (std::size_t p = 0; p < shards_.size(); ++p) {
      shards_[p].has_gradient = buckets_->has_gradient(p);
      gradients_[p].empty = !shards_[p].has_gradient;
      gradients_[p].values = nodes_of(p);
      shards_[p].gradient = {gradients_[p].values.data};
    }
  }

  double gradient_norm() override {
    if (!ranks_go_alone()) sum_over_ranks();
    squares_.clear();
    append_block_squares(shards_, squares_);
    return norm_of(squares_);
  }

  void update(Optimizer& optimizer) override {
    if (client_) {
      weigh();
      client_->push_pull(gradients_, {.lr = optimizer.lr(), .scale = optimizer.gradient_scale()},
                         wanted_);
      // A push that came too late for any step moves no clock.
      missed_ = std::max<std::int64_t>(0, client_->clock() - done_ - 1);
      done_ += 1 + missed_;
    }
    share();
  }

  void publish_parameters() override {
    if (!ranks_go_alone() || !(asked_ || flag_raised()) || has_ended_) return;
    has_ended_ = true;
    if (world_.rank() == 0) {
      client_->settle();
      client_->fetch(wanted_);
    } else if (client_) {
      client_->leave();
    }
    if (groups_->index() == 0) share();
  }

  bool shards_are_whole() const override { return true; }
  void ask_to_be_in_step() override { asked_ = true; }

  bool ranks_go_alone() const override {
    return options_.consistency.mode != Mode::kSynchronous ||
           options_.consistency.backup_workers > 0;
  }

  std::int64_t missed_steps() override {
    return options_.consistency.backup_workers > 0 ? missed_ : 0;
  }

  void collect_state(Optimizer& optimizer) override {
    if (world_.rank() > 0) return;
    client_->fetch(state_of(optimizer));
    std::vector<std::int64_t> steps(shards_.size());
    client_->fetch_steps(steps);
    std::size_t at = 0;
    for (const Optimizer::Slot& slot : optimizer.state()) {
      if (slot.name == "step") *slot.values.as<std::int64_t>() = steps[at++];
    }
  }

  void spread_state(Optimizer& optimizer) override {
    if (world_.rank() > 0 || client_->servers_have_values()) return;
    std::vector<std::int64_t> steps;
    for (const Optimizer::Slot& slot : optimizer.state()) {
      if (slot.name == "step") steps.push_back(*slot.values.as<std::int64_t>());
    }
    client_->store_steps(steps);
    client_->store(state_of(optimizer));
  }

  // Of another number of workers or servers, nobody could tell whose it is.
  std::vector<State> own_state() override {
    std::vector<State> all;
    for (std::size_t p = 0; p < compressors_.size(); ++p) {
      for (std::size_t shard = 0; shard < compressors_[p].size(); ++shard) {
        const std::string of = fmt::format("of_{}.{}_of_{}.{}", groups_->count(), shard,
                                           compressors_[p].size(), declaration_.dense[p].name);
        append("compression.residual." + of, compressors_[p][shard].residual(), all);
        append("compression.factor." + of, compressors_[p][shard].factor(), all);
      }
    }
    return all;
  }

  Traffic traffic() const override {
    if (!groups_) return {};
    Traffic traffic = groups_->inside().traffic();
    if (client_) traffic += client_->traffic();
    return traffic;
  }

 private:
  void check_options() const {
    if (options_.group_size < 0) {
      throw UsageError(fmt::format("through_server: group_size must not be negative, got {}",
                                   options_.group_size));
    }
    if (ranks_go_alone()) return;
    const char* const modes = "modes asynchronous, bounded, or synchronous with backup workers";
    if (options_.group_size != 1) {
      throw UsageError(fmt::format(
          "through_server: group_size {} needs ranks that go alone: {}; here all are in step",
          options_.group_size, modes));
    }
    if (options_.world.compression.codec != "none") {
      throw UsageError(
          fmt::format("through_server: compression \"{}\" needs ranks that push averages: {}",
                      options_.world.compression.codec, modes));
    }
  }

  void make_buckets(const NamedTensors& model) {
    StrategyOptions options = options_.world;
    options.compression = {};  // it is what is pushed that is compressed
    if (!ranks_go_alone()) {
      rank_ = world_.rank();
      buckets_.emplace(world_, model, options, GradientBuckets::Mode::kCollect);
      return;
    }
    options.virtual_workers = static_cast<int>(groups_->virtual_workers().size());
    options.shares = groups_->shares();
    rank_ = groups_->inside().rank();
    buckets_.emplace(groups_->inside(), model, options, GradientBuckets::Mode::kReduce);
  }

  // A group with more virtual workers than another has more to say.
  void weigh() {
    if (!ranks_go_alone() || groups_->weight() == 1) return;
    const at::NoGradGuard no_grad;
    for (const server::Gradient& gradient : gradients_) {
      if (gradient.empty) continue;
      tensor_over(gradient.values, {gradient.values.count}).mul_(groups_->weight());
    }
  }

  // What the worker has to the rest of its group.
  void share() {
    Communicator& inside = groups_->inside();
    if (inside.size() == 1) return;
    std::vector<Work> works;
    for (const server::Wanted& one : wanted_) works.push_back(inside.broadcast(one.out, 0));
    works.push_back(inside.broadcast(buffer_of(std::span(&missed_, 1)), 0));
    for (Work& work : works) work.wait();
  }

  void declare() {
    declaration_.optimizer = options_.optimizer;
    declaration_.clip_value = options_.clip_value;
    declaration_.consistency = options_.consistency;
    if (!ranks_go_alone()) {
      for (int rank = 0; rank < world_.size(); ++rank) {
        declaration_.consistency.virtual_workers.push_back(
            static_cast<int>(tree_.leaves_of(rank).size()));
      }
    }
    for (std::size_t p = 0; p < buckets_->parameters(); ++p) {
      const at::Tensor& parameter = buckets_->parameter(p);
      declaration_.dense.push_back({.name = buckets_->name(p),
                                    .count = parameter.numel(),
                                    .dtype = dtype_of(parameter.scalar_type())});
    }
    check(declaration_);
  }

  // To where they are pulled without a copy, if there is such memory.
  void move_parameters() {
    nodes_ = ranks_go_alone() ? 1 : buckets_->tree().nodes_of(rank_).size();
    rows_.resize(buckets_->parameters());
    for (std::size_t p = 0; p < buckets_->parameters(); ++p) {
      const at::Tensor& parameter = buckets_->parameter(p);
      Buffer home = host_buffer_of(parameter);
      std::byte* const memory = client_ ? client_->allocate(home.bytes()) : nullptr;
      if (memory != nullptr) {
        home.data = memory;
        std::memcpy(memory, parameter.data_ptr(), home.bytes());
        parameter.set_data(tensor_over(home, parameter.sizes()));
      }
      // Several nodes lie apart in their bucket, and are pushed as one.
      if (nodes_ > 1) rows_[p].resize(nodes_ * home.bytes());
      shards_.push_back({.name = buckets_->name(p),
                         .full_shape = parameter.sizes().vec(),
                         .values = home,
                         .gradient = {nullptr}});
      compress(p, parameter.sizes());
      wanted_.push_back({.table = declaration_.dense[p].name, .out = home});
      gradients_.push_back({.table = declaration_.dense[p].name});
    }
    for (std::size_t p = 0; p < gradients_.size(); ++p) {
      gradients_[p].compressors = compressors_[p];
    }
  }

  void compress(std::size_t p, at::IntArrayRef shape) {
    std::vector<Compressor>& compressors = compressors_.emplace_back();
    if (!client_ || options_.world.compression.codec == "none") return;
    const server::DenseTable& table = declaration_.dense[p];
    for (int shard = 0; shard < client_->shards(); ++shard) {
      // Ranks that do not add up what random choices have left need not choose alike.
      compressors.emplace_back(options_.world.compression, shape,
                               server::range_of(table.count, p, shard, client_->shards()),
                               fnv1a(table.name) + static_cast<std::uint64_t>(world_.rank()));
    }
  }

  static void append(std::string name, const Buffer& values, std::vector<State>& all) {
    if (values.count > 0) all.push_back({std::move(name), {values.count}, 0, values});
  }

  Buffer nodes_of(std::size_t p) {
    const Buffer first = buckets_->row(rank_, p, 0);
    if (nodes_ == 1) return first;
    for (std::size_t node = 0; node < nodes_; ++node) {
      std::memcpy(rows_[p].data() + node * first.bytes(),
                  buckets_->row(rank_, p, static_cast<int>(node)).data, first.bytes());
    }
    return {rows_[p].data(), first.count * static_cast<std::int64_t>(nodes_), first.dtype};
  }

  // No rank sees the mean, which the servers take, until it asks for it.
  void sum_over_ranks() {
    means_.resize(shards_.size());
    for (std::size_t p = 0; p < shards_.size(); ++p) {
      const Buffer& rows = gradients_[p].values;
      means_[p].assign(static_cast<const std::byte*>(rows.data),
                       static_cast<const std::byte*>(rows.data) + rows.bytes());
      world_
          .all_reduce({means_[p].data(), rows.count, rows.dtype}, buckets_->tree(),
                      buckets_->tree().leaves())
          .wait();
      shards_[p].gradient = {means_[p].data()};
    }
  }

  // Parameters and the optimizer's state, in and out.
  std::vector<server::Wanted> state_of(Optimizer& optimizer) const {
    std::vector<server::Wanted> all = wanted_;
    std::uint8_t array = 0;
    for (const Optimizer::Slot& slot : optimizer.state()) {
      if (slot.name == "step") {
        array = 0;
        continue;
      }
      all.push_back({.table = slot.shard->name, .out = slot.values, .slot = ++array});
    }
    return all;
  }

  Communicator& world_;
  ClientFactory make_client_;
  ThroughServerOptions options_;
  ReductionTree tree_;  // of the world
  std::optional<RankGroups> groups_;
  std::unique_ptr<server::Client> client_;  // of the first rank of a group; null on the others
  int rank_ = 0;                            // in the communicator of the buckets
  std::optional<GradientBuckets> buckets_;
  server::Declaration declaration_;
  std::vector<Shard> shards_;
  std::vector<server::Wanted> wanted_;
  std::vector<server::Gradient> gradients_;
  std::size_t nodes_ = 1;  // that this rank pushes of each gradient
  std::vector<std::vector<std::byte>> rows_;
  std::vector<std::vector<Compressor>> compressors_;  // of each parameter, one a server
  std::vector<std::vector<std::byte>> means_;
  std::vector<double> squares_;
  bool has_pulled_ = false;
  bool asked_ = false;
  bool has_ended_ = false;
  std::int64_t done_ = 0;    // steps, those that were missed included
  std::int64_t missed_ = 0;  // in the last update()
};

}  // namespace

std::unique_ptr<Strategy> through_server(Communicator& world, ClientFactory make_client,
                                         ThroughServerOptions options) {
  return std::make_unique<ThroughServer>(world, std::move(make_client), std::move(options));
}

}  // namespace trireme
