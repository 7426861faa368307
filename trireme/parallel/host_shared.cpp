#include "trireme/parallel/host_shared.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <optional>

#include "trireme/base/error.h"
#include "trireme/kernels/reduce.h"
#include "trireme/model/model.h"
#include "trireme/parallel/gradient_norm.h"
#include "trireme/parallel/gradients/step_gradients.h"
#include "trireme/parallel/synchronize.h"

namespace trireme {

namespace {

constexpr std::size_t kParameterAlignment = 64;  // bytes

class HostShared final : public Strategy {
 public:
  HostShared(Communicator& world, StrategyOptions options)
      : Strategy({.name = "host_shared", .whole_shards = world.size() == 1}),
        world_(world),
        options_(std::move(options)),
        tree_(tree_of(options_, world.size())) {
    require_no_codec(options_, "host_shared", "gradients are read where they lie and are not sent");
  }

  Range virtual_workers() const override { return tree_.virtual_workers_of(world_.rank()); }

 private:
  std::span<Shard> attach_model(Model& model) override {
    broadcast_from_first_rank(world_, model);
    const NamedTensors tensors = model.tensors();
    gradients_.emplace(world_, tensors, options_, StepGradients::Mode::kCollect);
    move_parameters();
    cut_shards();
    return shards_;
  }

  GradientSink& begin_step(const StepShape& shape) override {
    gradients_->begin(shape, shape.weight > 0 ? shape.weight : tree_.virtual_workers());
    return *gradients_;
  }

  GradientReport finish_gradients() override {
    gradients_->reduce();
    for (std::size_t i = 0; i < shards_.size(); ++i) {
      shards_[i].has_gradient = gradients_->has_gradient(parameter_of_[i]);
      shards_[i].gradient = terms_[i];
      shards_[i].tree = &gradients_->tree();
      shards_[i].divisor = gradients_->divisor();
    }
    GradientReport report = gradients_->report();
    if (gradients_->may_overflow()) report.is_finite = std::isfinite(compute_gradient_norm());
    return report;
  }

  double compute_gradient_norm() override {
    for (Shard& shard : shards_) reduce_in_place(shard);
    own_squares_.clear();
    append_block_squares(shards_, own_squares_);
    // One rank has each block and the others add zero: the order of summation has no effect.
    squares_.assign(static_cast<std::size_t>(total_blocks_), 0.0);
    std::ranges::copy(own_squares_, squares_.begin() + blocks_.begin);
    world_.all_reduce(buffer_of(std::span(squares_))).wait();
    return norm_of(squares_);
  }

  StepResult finish_step(const StepEnd& end) override {
    if (end.optimizer != nullptr && !end.is_skipped) end.optimizer->step();
    gradients_->end_step(end.is_skipped);
    world_.barrier();
    return {.loss = gradients_->loss(), .stop = gradients_->stop()};
  }

  void move_parameters() {
    std::size_t bytes = 0;
    std::vector<std::size_t> offsets;
    for (std::size_t p = 0; p < gradients_->parameters(); ++p) {
      offsets.push_back(bytes);
      bytes += (gradients_->parameter(p).nbytes() + kParameterAlignment - 1) / kParameterAlignment *
               kParameterAlignment;
    }
    // The parameters keep the memory when the strategy is gone.
    const auto memory = std::make_shared<Memory>(world_.allocate(world_.rank() == 0 ? bytes : 0));
    char* base = static_cast<char*>(memory->peer(0));
    if (bytes > 0 && base == nullptr) {
      throw UsageError(
          fmt::format("strategy host_shared: rank {} of {} does not share memory with rank 0; use "
                      "strategy replicated over more than one host",
                      world_.rank(), world_.size()));
    }
    for (std::size_t p = 0; p < gradients_->parameters(); ++p) {
      const at::Tensor& parameter = gradients_->parameter(p);
      Buffer home = host_buffer_of(parameter);
      home.data = base + offsets[p];
      if (world_.rank() == 0) std::memcpy(home.data, parameter.data_ptr(), home.bytes());
      parameter.set_data(at::from_blob(
          home.data, parameter.sizes(), [memory](void*) {}, parameter.options()));
    }
    world_.barrier();
  }

  void cut_shards() {
    for (std::size_t p = 0; p < gradients_->parameters(); ++p) {
      total_blocks_ += blocks_of(gradients_->parameter(p).numel());
    }
    blocks_ = partition(total_blocks_, world_.size(), world_.rank());
    std::int64_t block = 0;
    for (std::size_t p = 0; p < gradients_->parameters(); ++p) {
      const at::Tensor& parameter = gradients_->parameter(p);
      const std::int64_t here = blocks_of(parameter.numel());
      const std::int64_t first = std::clamp(blocks_.begin - block, std::int64_t{0}, here);
      const std::int64_t last = std::clamp(blocks_.end - block, std::int64_t{0}, here);
      if (first < last) {
        add_shard(p, {first * kBlock, std::min(last * kBlock, parameter.numel())});
      }
      block += here;
    }
  }

  void add_shard(std::size_t p, Range elements) {
    const at::Tensor& parameter = gradients_->parameter(p);
    std::vector<const void*> terms;
    for (int rank = 0; rank < world_.size(); ++rank) {
      const int nodes = static_cast<int>(gradients_->tree().nodes_of(rank).size());
      for (int row = 0; row < nodes; ++row) {
        terms.push_back(gradients_->row(rank, p, row).slice(elements.begin, elements.size()).data);
      }
    }
    shards_.push_back({.name = gradients_->name(p),
                       .region = Region(parameter.sizes().vec()).slice(elements),
                       .values = host_buffer_of(parameter).slice(elements.begin, elements.size()),
                       .gradient = terms,
                       .tree = &gradients_->tree()});
    terms_.push_back(std::move(terms));
    parameter_of_.push_back(p);
  }

  // The sum goes into this rank's own row, whose slice no other rank reads.
  void reduce_in_place(Shard& shard) {
    if (shard.tree == nullptr) return;
    void* own = const_cast<void*>(shard.gradient[tree_.first_term(world_.rank())]);
    tree_reduce(std::span(&own, 1), shard.gradient, tree_, shard.values.count, shard.values.dtype,
                ReduceOp::kSum, shard.divisor);
    shard.gradient = {own};
    shard.tree = nullptr;
  }

  Communicator& world_;
  StrategyOptions options_;
  ReductionTree tree_;
  std::optional<StepGradients> gradients_;
  std::vector<Shard> shards_;
  std::vector<std::vector<const void*>> terms_;
  std::vector<std::size_t> parameter_of_;
  Range blocks_;
  std::int64_t total_blocks_ = 0;
  std::vector<double> own_squares_;
  std::vector<double> squares_;
};

}  // namespace

std::unique_ptr<Strategy> host_shared(Communicator& world, StrategyOptions options) {
  return std::make_unique<HostShared>(world, std::move(options));
}

}  // namespace trireme
