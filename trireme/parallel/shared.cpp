#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "trireme/base/error.h"
#include "trireme/kernels/reduce.h"
#include "trireme/parallel/bucketed_strategy.h"
#include "trireme/parallel/gradient_norm.h"
#include "trireme/parallel/strategy.h"
#include "trireme/parallel/synchronise.h"

namespace trireme {

namespace {

constexpr std::size_t kAlignment = 64;  // bytes

class Shared final : public BucketedStrategy {
 public:
  Shared(Communicator& world, const StrategyOptions& options) : BucketedStrategy(world, options) {
    if (options.compression.codec == "none") return;
    throw UsageError(
        fmt::format("strategy shared: compression must be \"none\", got \"{}\"; gradients are read "
                    "where they lie and do not travel. Use strategy replicated to compress them",
                    options.compression.codec));
  }

  std::span<Shard> attach(const NamedTensors& model) override {
    make_contiguous(model);
    broadcast_from_first_rank(world_, model);
    buckets_.emplace(world_, model, options_, GradientBuckets::Mode::kCollect);
    move_parameters();
    cut_shards();
    return shards_;
  }

  void reduce_gradients() override {
    buckets_->finish();
    for (std::size_t i = 0; i < shards_.size(); ++i) {
      shards_[i].has_gradient = buckets_->has_gradient(parameter_of_[i]);
      shards_[i].gradient = terms_[i];
      shards_[i].tree = &buckets_->tree();
    }
  }

  double gradient_norm() override {
    for (Shard& shard : shards_) settle(shard);
    mine_.clear();
    append_block_squares(shards_, mine_);
    // One rank has each block and the others add zero, so no order of summation shows.
    squares_.assign(static_cast<std::size_t>(total_blocks_), 0.0);
    std::copy(mine_.begin(), mine_.end(), squares_.begin() + blocks_.begin);
    world_.all_reduce(buffer_of(std::span(squares_))).wait();
    return norm_of(squares_);
  }

  void publish_parameters() override { world_.barrier(); }
  bool shards_are_whole() const override { return world_.size() == 1; }

 private:
  void move_parameters() {
    std::size_t bytes = 0;
    std::vector<std::size_t> offsets;
    for (std::size_t p = 0; p < buckets_->parameters(); ++p) {
      offsets.push_back(bytes);
      bytes += (buckets_->parameter(p).nbytes() + kAlignment - 1) / kAlignment * kAlignment;
    }
    parameters_ = world_.allocate(world_.rank() == 0 ? bytes : 0);
    char* base = static_cast<char*>(parameters_.peer(0));
    if (bytes > 0 && base == nullptr) {
      throw UsageError(
          fmt::format("strategy shared: rank {} of {} does not share memory with rank 0; use "
                      "strategy replicated over more than one host",
                      world_.rank(), world_.size()));
    }
    for (std::size_t p = 0; p < buckets_->parameters(); ++p) {
      const at::Tensor& parameter = buckets_->parameter(p);
      Buffer home = host_buffer_of(parameter);
      home.data = base + offsets[p];
      if (world_.rank() == 0) std::memcpy(home.data, parameter.data_ptr(), home.bytes());
      parameter.set_data(tensor_over(home, parameter.sizes()));
    }
    world_.barrier();
  }

  void cut_shards() {
    for (std::size_t p = 0; p < buckets_->parameters(); ++p) {
      total_blocks_ += blocks_of(buckets_->parameter(p).numel());
    }
    blocks_ = partition(total_blocks_, world_.size(), world_.rank());
    std::int64_t block = 0;
    for (std::size_t p = 0; p < buckets_->parameters(); ++p) {
      const at::Tensor& parameter = buckets_->parameter(p);
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
    const at::Tensor& parameter = buckets_->parameter(p);
    std::vector<const void*> terms;
    for (int rank = 0; rank < world_.size(); ++rank) {
      const int nodes = static_cast<int>(buckets_->tree().nodes_of(rank).size());
      for (int row = 0; row < nodes; ++row) {
        terms.push_back(buckets_->row(rank, p, row).slice(elements.begin, elements.size()).data);
      }
    }
    shards_.push_back({.name = buckets_->name(p),
                       .region = Region(parameter.sizes().vec()).slice(elements),
                       .values = host_buffer_of(parameter).slice(elements.begin, elements.size()),
                       .gradient = terms,
                       .tree = &buckets_->tree()});
    terms_.push_back(std::move(terms));
    parameter_of_.push_back(p);
  }

  // Into this rank's own row: of that, nobody else reads this slice.
  void settle(Shard& shard) {
    if (shard.tree == nullptr) return;
    void* own = const_cast<void*>(shard.gradient[buckets_->tree().first_term(world_.rank())]);
    tree_reduce(std::span(&own, 1), shard.gradient, *shard.tree, shard.values.count,
                shard.values.dtype, ReduceOp::kMean);
    shard.gradient = {own};
    shard.tree = nullptr;
  }

  Memory parameters_;  // rank 0's block holds them all
  std::vector<Shard> shards_;
  std::vector<std::vector<const void*>> terms_;
  std::vector<std::size_t> parameter_of_;
  Range blocks_;
  std::int64_t total_blocks_ = 0;
  std::vector<double> mine_;
  std::vector<double> squares_;
};

}  // namespace

std::unique_ptr<Strategy> shared(Communicator& world, StrategyOptions options) {
  return std::make_unique<Shared>(world, options);
}

}  // namespace trireme
