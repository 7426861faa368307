#include "trireme/parallel/parameter_server.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <optional>

#include "trireme/base/error.h"
#include "trireme/base/hash.h"
#include "trireme/kernels/reduce.h"
#include "trireme/model/model.h"
#include "trireme/parallel/gradient_norm.h"
#include "trireme/parallel/gradients/step_gradients.h"
#include "trireme/parallel/rank_groups.h"
#include "trireme/parallel/relaxed_consistency.h"
#include "trireme/parallel/synchronize.h"

namespace trireme {

namespace {

using Mode = server::Consistency::Mode;

class ParameterServer final : public Strategy, public RelaxedConsistency {
 public:
  ParameterServer(Communicator& world, ClientFactory make_client, ParameterServerOptions options)
      : Strategy({.name = "parameter_server", .whole_shards = true}),
        world_(world),
        make_client_(std::move(make_client)),
        options_(std::move(options)),
        tree_(tree_of(options_.world, world.size())) {
    check_options();
    // The rate comes with each push; a schema that has one would differ with it.
    options_.optimizer.lr.reset();
  }

  // The client's memory ends with it.
  ~ParameterServer() override {
    if (!gradients_) return;
    for (std::size_t p = 0; p < shards_.size(); ++p) {
      const at::Tensor& parameter = gradients_->parameter(p);
      parameter.set_data(parameter.detach().clone());
    }
  }

  Range virtual_workers() const override { return tree_.virtual_workers_of(world_.rank()); }
  RelaxedConsistency* relaxed() override { return this; }

  bool asynchronous() const override {
    return options_.consistency.mode != Mode::kSynchronous ||
           options_.consistency.backup_workers > 0;
  }

  void synchronize() override {
    require_between_steps("synchronize");
    end_training();
  }

  void report_failure(const std::string& why) override {
    if (client_) client_->fail(why);
  }

  // All ranks have the same optimizer, a mirror of the servers'.
  Group group() const override { return {}; }
  Communicator& step_ranks() override {
    require_attached("step_ranks");
    return asynchronous() ? groups_->inside() : world_;
  }

  void gather_state(Optimizer& optimizer) override {
    require_attached("gather_state");
    if (world_.rank() > 0) return;
    client_->fetch(state_of(optimizer));
    std::vector<std::int64_t> steps(shards_.size());
    client_->fetch_steps(steps);
    for (std::size_t p = 0; p < steps.size(); ++p) optimizer.shard_states()[p].step = steps[p];
  }

  void scatter_state(Optimizer& optimizer) override {
    require_attached("scatter_state");
    if (world_.rank() > 0 || client_->servers_have_values()) return;
    std::vector<std::int64_t> steps;
    for (const Optimizer::ShardState& state : optimizer.shard_states()) steps.push_back(state.step);
    client_->store_steps(steps);
    client_->store(state_of(optimizer));
  }

  // Residuals of another number of workers or servers belong to other slices: the names differ.
  std::vector<State> local_state() override {
    std::vector<State> all;
    for (std::size_t p = 0; p < compressors_.size(); ++p) {
      for (std::size_t shard = 0; shard < compressors_[p].size(); ++shard) {
        const std::string of = fmt::format("of_{}.{}_of_{}.{}", groups_->count(), shard,
                                           compressors_[p].size(), schema_.dense[p].name);
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
  std::span<Shard> attach_model(Model& model) override {
    broadcast_from_first_rank(world_, model);
    const NamedTensors tensors = model.tensors();
    groups_.emplace(world_, tree_, options_.group_size);
    options_.consistency.workers = groups_->count();
    if (Communicator* const workers = groups_->leaders()) client_ = make_client_(*workers);
    make_gradients(tensors);
    declare();
    move_parameters();
    if (client_) {
      client_->join(schema_);
      if (world_.rank() == 0 && !client_->servers_have_values()) client_->store(wanted_);
      steps_ = client_->clock();
    }
    world_.barrier();  // from here on clocks move
    return shards_;
  }

  GradientSink& begin_step(const StepShape& shape) override {
    if (shape.changed_values != 0) {
      throw UsageError(
          "strategy parameter_server: begin(): parameters were changed since attach(), but they "
          "lie "
          "on the servers, whose values replace them; load before attach()");
    }
    if (!has_pulled_) {
      if (client_) client_->pull(wanted_);
      share();
    }
    has_pulled_ = true;
    weight_ = shape.weight > 0 ? shape.weight : tree_.virtual_workers();
    gradients_->begin(shape, asynchronous() ? weight_ / groups_->count() : weight_);
    return *gradients_;
  }

  GradientReport finish_gradients() override {
    gradients_->reduce();
    for (std::size_t p = 0; p < shards_.size(); ++p) {
      shards_[p].has_gradient = gradients_->has_gradient(p);
      pushed_[p].empty = !shards_[p].has_gradient;
      pushed_[p].values = partial_sums_of(p);
      shards_[p].gradient = {pushed_[p].values.data};
    }
    GradientReport report = gradients_->report();
    report.loss = loss();
    if (gradients_->may_overflow()) report.is_finite = std::isfinite(compute_gradient_norm());
    return report;
  }

  // What groups push is divided by the mean weight of a group; what they report by their own.
  double loss() const { return of_group(gradients_->loss()); }

  double of_group(double value) const {
    return asynchronous() && groups_->weight() != 1 ? value / groups_->weight() : value;
  }

  double compute_gradient_norm() override {
    if (!asynchronous()) sum_over_ranks();
    squares_.clear();
    append_block_squares(shards_, squares_);
    return of_group(norm_of(squares_));
  }

  StepResult finish_step(const StepEnd& end) override {
    gradients_->end_step(end.is_skipped);
    if (end.is_skipped) clear_pushed();
    if (client_) {
      client_->push_pull(pushed_,
                         {.lr = end.optimizer->lr(),
                          .scale = end.optimizer->gradient_scale(),
                          .divisor = asynchronous() ? 0 : weight_},
                         wanted_);
      // A push that came too late for any step moves no clock.
      skipped_ = std::max<std::int64_t>(0, client_->clock() - steps_ - 1);
      steps_ += 1 + skipped_;
    }
    share();
    if (end.sync == Sync::kNow || gradients_->stop()) end_training();
    return {.loss = loss(),
            .stop = gradients_->stop(),
            .skipped_steps = options_.consistency.backup_workers > 0 ? skipped_ : 0};
  }

  // This rank makes no more steps. Rank 0 waits for the others and reads the last parameters.
  void end_training() {
    if (!asynchronous() || has_ended_) return;
    has_ended_ = true;
    if (world_.rank() == 0) {
      client_->drain();
      client_->fetch(wanted_);
    } else if (client_) {
      client_->leave();
    }
    if (groups_->index() == 0) share();
  }

  // A skipped step is one in which no parameter had a gradient: clocks move all the same.
  void clear_pushed() {
    for (server::Gradient& gradient : pushed_) {
      gradient.empty = true;
      std::memset(gradient.values.data, 0, gradient.values.bytes());
    }
  }

  void check_options() const {
    if (options_.group_size < 0) {
      throw UsageError(fmt::format("parameter_server: group_size must not be negative, got {}",
                                   options_.group_size));
    }
    if (asynchronous()) return;
    const char* const modes = "asynchronous, bounded, or synchronous with backup workers";
    if (options_.group_size != 1) {
      throw UsageError(
          fmt::format("parameter_server: group_size {} needs groups of ranks that do not wait for "
                      "each other (modes {}), but all ranks are synchronous",
                      options_.group_size, modes));
    }
    if (options_.world.compression.codec != "none") {
      throw UsageError(fmt::format(
          "parameter_server: compression \"{}\" needs workers that push averages: modes {}",
          options_.world.compression.codec, modes));
    }
  }

  void make_gradients(const NamedTensors& tensors) {
    StrategyOptions options = options_.world;
    options.compression = {};  // what is pushed is compressed, not what the group reduces
    if (!asynchronous()) {
      rank_ = world_.rank();
      gradients_.emplace(world_, tensors, options, StepGradients::Mode::kCollect);
      return;
    }
    options.virtual_workers = static_cast<int>(groups_->virtual_workers().size());
    options.shares = groups_->shares();
    rank_ = groups_->inside().rank();
    gradients_.emplace(groups_->inside(), tensors, options, StepGradients::Mode::kReduce);
  }

  // Brings what the worker has pulled to the rest of its group.
  void share() {
    Communicator& inside = groups_->inside();
    if (inside.size() == 1) return;
    std::vector<Work> works;
    for (const server::TableValues& one : wanted_) works.push_back(inside.broadcast(one.values, 0));
    works.push_back(inside.broadcast(buffer_of(std::span(&skipped_, 1)), 0));
    for (Work& work : works) work.wait();
  }

  std::vector<ParameterInfo> parameters() const {
    std::vector<ParameterInfo> all;
    for (std::size_t p = 0; p < gradients_->parameters(); ++p) {
      all.push_back({gradients_->name(p), gradients_->parameter(p).sizes().vec()});
    }
    return all;
  }

  void declare() {
    schema_.optimizer = options_.optimizer;
    schema_.optimizer.groups.clear();
    schema_.groups = groups_by_name(options_.optimizer.groups, parameters());
    schema_.clip_value = options_.clip_value;
    schema_.consistency = options_.consistency;
    if (!asynchronous()) {
      for (int rank = 0; rank < world_.size(); ++rank) {
        schema_.consistency.virtual_workers.push_back(
            static_cast<int>(tree_.virtual_workers_of(rank).size()));
      }
    }
    for (std::size_t p = 0; p < gradients_->parameters(); ++p) {
      const at::Tensor& parameter = gradients_->parameter(p);
      schema_.dense.push_back({.name = gradients_->name(p),
                               .count = parameter.numel(),
                               .dtype = dtype_of(parameter.scalar_type())});
      if (needs_whole_parameters(schema_.optimizer.name)) {
        schema_.dense.back().shape = parameter.sizes().vec();
      }
    }
    check(schema_);
  }

  // Into memory that parameters are pulled to without a copy, if there is any.
  void move_parameters() {
    partial_sums_ = asynchronous() ? 1 : tree_.nodes_of(rank_).size();
    rows_.resize(gradients_->parameters());
    for (std::size_t p = 0; p < gradients_->parameters(); ++p) {
      const at::Tensor& parameter = gradients_->parameter(p);
      Buffer home = host_buffer_of(parameter);
      std::byte* const memory = client_ ? client_->allocate(home.bytes()) : nullptr;
      if (memory != nullptr) {
        home.data = memory;
        std::memcpy(memory, parameter.data_ptr(), home.bytes());
        parameter.set_data(tensor_over(home, parameter.sizes()));
      }
      // Several partial sums lie apart in their bucket, and are pushed as one array.
      if (partial_sums_ > 1) rows_[p].resize(partial_sums_ * home.bytes());
      shards_.push_back({.name = gradients_->name(p),
                         .region = Region(parameter.sizes().vec()),
                         .values = home,
                         .gradient = {nullptr}});
      compress(p, parameter.sizes());
      wanted_.push_back({.table = schema_.dense[p].name, .values = home});
      pushed_.push_back({.table = schema_.dense[p].name});
    }
    for (std::size_t p = 0; p < pushed_.size(); ++p) {
      pushed_[p].compressors = compressors_[p];
    }
  }

  void compress(std::size_t p, at::IntArrayRef shape) {
    std::vector<Compressor>& compressors = compressors_.emplace_back();
    if (!client_ || options_.world.compression.codec == "none") return;
    const server::DenseTable& table = schema_.dense[p];
    for (int shard = 0; shard < client_->shards(); ++shard) {
      // The random choices of different workers may differ: their payloads are not summed.
      compressors.emplace_back(options_.world.compression, shape,
                               server::range_of(schema_, p, shard, client_->shards()),
                               fnv1a(table.name) + static_cast<std::uint64_t>(world_.rank()));
    }
  }

  static void append(std::string name, const Buffer& values, std::vector<State>& all) {
    if (values.count > 0) all.push_back({std::move(name), Region({values.count}), values});
  }

  Buffer partial_sums_of(std::size_t p) {
    const Buffer first = gradients_->row(rank_, p, 0);
    if (partial_sums_ == 1) return first;
    for (std::size_t node = 0; node < partial_sums_; ++node) {
      std::memcpy(rows_[p].data() + node * first.bytes(),
                  gradients_->row(rank_, p, static_cast<int>(node)).data, first.bytes());
    }
    return {rows_[p].data(), first.count * static_cast<std::int64_t>(partial_sums_), first.dtype};
  }

  // The servers take the mean; a rank that wants to see it must take it as well.
  void sum_over_ranks() {
    means_.resize(shards_.size());
    for (std::size_t p = 0; p < shards_.size(); ++p) {
      const Buffer& rows = pushed_[p].values;
      means_[p].assign(static_cast<const std::byte*>(rows.data),
                       static_cast<const std::byte*>(rows.data) + rows.bytes());
      world_.all_reduce({means_[p].data(), rows.count, rows.dtype}, tree_, weight_).wait();
      shards_[p].gradient = {means_[p].data()};
    }
  }

  // The parameters and the optimizer's state, to be read from servers or written to them.
  std::vector<server::TableValues> state_of(Optimizer& optimizer) const {
    std::vector<server::TableValues> all = wanted_;
    for (std::size_t p = 0; p < shards_.size(); ++p) {
      std::uint8_t index = 0;
      for (const Buffer& array : optimizer.shard_states()[p].arrays) {
        all.push_back({.table = shards_[p].name, .values = array, .array = ++index});
      }
    }
    return all;
  }

  Communicator& world_;
  ClientFactory make_client_;
  ParameterServerOptions options_;
  ReductionTree tree_;  // of the world
  std::optional<RankGroups> groups_;
  std::unique_ptr<server::Client> client_;  // of the first rank of a group; null on the others
  int rank_ = 0;                            // in the communicator of the gradients
  std::optional<StepGradients> gradients_;
  server::ModelSchema schema_;
  std::vector<Shard> shards_;
  std::vector<server::TableValues> wanted_;
  std::vector<server::Gradient> pushed_;
  std::size_t partial_sums_ = 1;  // of each gradient, which this rank pushes
  std::vector<std::vector<std::byte>> rows_;
  std::vector<std::vector<Compressor>> compressors_;  // of each parameter, one a server
  std::vector<std::vector<std::byte>> means_;
  std::vector<double> squares_;
  double weight_ = 1;  // of the step
  bool has_pulled_ = false;
  bool has_ended_ = false;
  std::int64_t steps_ = 0;    // made, those that were skipped included
  std::int64_t skipped_ = 0;  // in the last step
};

}  // namespace

std::unique_ptr<Strategy> parameter_server(Communicator& world, ClientFactory make_client,
                                           ParameterServerOptions options) {
  return std::make_unique<ParameterServer>(world, std::move(make_client), std::move(options));
}

}  // namespace trireme
