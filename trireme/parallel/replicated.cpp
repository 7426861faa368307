#include <ATen/ATen.h>
#include <fmt/format.h>

#include "trireme/base/error.h"
#include "trireme/parallel/bucketed_strategy.h"
#include "trireme/parallel/gradient_norm.h"
#include "trireme/parallel/strategy.h"
#include "trireme/parallel/synchronise.h"

namespace trireme {

namespace {

class Replicated final : public BucketedStrategy {
 public:
  Replicated(Communicator& world, const StrategyOptions& options)
      : BucketedStrategy(world, options) {
    check(options.compression);
  }

  std::span<Shard> attach(const NamedTensors& model) override {
    make_contiguous(model);
    broadcast_from_first_rank(world_, model);
    buckets_.emplace(world_, model, options_, GradientBuckets::Mode::kReduce);
    for (std::size_t p = 0; p < buckets_->parameters(); ++p) {
      const at::Tensor& parameter = buckets_->parameter(p);
      const Buffer gradient = buckets_->row(world_.rank(), p, 0);
      gradients_.push_back(tensor_over(gradient, parameter.sizes()));
      shards_.push_back({.name = buckets_->name(p),
                         .region = Region(parameter.sizes().vec()),
                         .values = host_buffer_of(parameter),
                         .gradient = {gradient.data}});
    }
    return shards_;
  }

  void reduce_gradients() override {
    buckets_->finish();
    for (std::size_t p = 0; p < shards_.size(); ++p) {
      shards_[p].has_gradient = buckets_->has_gradient(p);
      if (shards_[p].has_gradient) buckets_->parameter(p).mutable_grad() = gradients_[p];
    }
  }

  double gradient_norm() override {
    squares_.clear();
    append_block_squares(shards_, squares_);
    return norm_of(squares_);
  }

  void publish_parameters() override {}
  bool shards_are_whole() const override { return true; }
  std::vector<State> state() override { return buckets_->state(); }

 private:
  std::vector<at::Tensor> gradients_;  // what grad() becomes
  std::vector<Shard> shards_;
  std::vector<double> squares_;
};

}  // namespace

std::unique_ptr<Strategy> replicated(Communicator& world, StrategyOptions options) {
  return std::make_unique<Replicated>(world, options);
}

}  // namespace trireme
