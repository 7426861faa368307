#pragma once

#include <c10/core/CPUAllocator.h>

#include <algorithm>
#include <vector>

#include "trireme/comm/communicator.h"
#include "trireme/kernels/reduction_tree.h"
#include "trireme/model/model.h"
#include "trireme/parallel/strategy.h"

namespace trireme::test {

/// A strategy as a user would write it: the parameters of block b lie on rank b % size() alone.
/// They are gathered around the block's forward and backward passes and freed afterwards, as in
/// ZeRO stage 3. Each rank has `passes` virtual workers, a power of two.
class BlockOwner final : public Strategy, private GradientSink, private BlockHooks {
 public:
  BlockOwner(Communicator& world, int passes)
      : Strategy({.name = "block_owner"}),
        world_(world),
        tree_(passes * world.size(), world.size()) {}

  Range virtual_workers() const override { return tree_.virtual_workers_of(world_.rank()); }

  /// The most bytes of parameters that this rank has held at once, and those of its own blocks.
  std::int64_t peak_bytes() const { return peak_bytes_; }
  std::int64_t own_bytes() const { return own_bytes_; }

 private:
  std::span<Shard> attach_model(Model& model) override {
    for (const auto& block : model.blocks()) {
      const int owner = static_cast<int>(blocks_.size()) % world_.size();
      std::vector<at::Tensor>& parameters = blocks_.emplace_back();
      for (const auto& [name, tensor] : block->tensors().parameters) {
        parameters.push_back(tensor);
        sums_.emplace_back();
        owner_of_.push_back(owner);
        world_.broadcast(buffer_of(tensor), 0).wait();
        if (owner != world_.rank()) continue;
        own_bytes_ += static_cast<std::int64_t>(tensor.nbytes());
        shards_.push_back({.name = name,
                           .region = Region(tensor.sizes().vec()),
                           .values = buffer_of(tensor),
                           .gradient = {nullptr}});
      }
      if (owner != world_.rank()) resize(parameters, false);
    }
    model.add_hooks(*this);
    return shards_;
  }

  GradientSink& begin_step(const StepShape& shape) override {
    weight_ = shape.weight > 0 ? shape.weight : tree_.virtual_workers();
    stop_ = shape.request_stop ? 1 : 0;
    loss_ = 0;
    for (at::Tensor& sum : sums_) sum.reset();
    return *this;
  }

  // A power of two of micro-batches is one node of the tree, and their sum in order is its sum for
  // one or two of them.
  void add(int parameter, int, const at::Tensor& gradient) override {
    at::Tensor& sum = sums_[static_cast<std::size_t>(parameter)];
    sum = sum.defined() ? sum.add_(gradient) : gradient.clone();
  }

  void finish(int, double loss_sum) override { loss_ += loss_sum; }

  GradientReport finish_gradients() override {
    std::size_t shard = 0;
    for (std::size_t p = 0; p < sums_.size(); ++p) {
      world_.all_reduce(buffer_of(sums_[p]), tree_, weight_).wait();
      if (owner_of_[p] == world_.rank()) {
        shards_[shard++].gradient = {sums_[p].data_ptr()};
      } else {
        sums_[p].reset();
      }
    }
    world_.all_reduce(buffer_of(std::span(&loss_, 1)), tree_, weight_).wait();
    world_.all_reduce(buffer_of(std::span(&stop_, 1))).wait();
    return {.loss = loss_};
  }

  double compute_gradient_norm() override {
    double squares = 0;
    for (const at::Tensor& sum : sums_) {
      if (sum.defined()) squares += sum.to(at::kDouble).square().sum().item<double>();
    }
    world_.all_reduce(buffer_of(std::span(&squares, 1))).wait();
    return std::sqrt(squares);
  }

  StepResult finish_step(const StepEnd& end) override {
    if (end.optimizer != nullptr && !end.is_skipped) end.optimizer->step();
    return {.loss = loss_, .stop = stop_ > 0};
  }

  void before_forward(int block) override { gather(block); }
  void after_forward(int block) override { release(block); }
  void before_backward(int block) override { gather(block); }
  void after_backward(int block) override { release(block); }

  void gather(int block) {
    const int owner = block % world_.size();
    const auto& parameters = blocks_[static_cast<std::size_t>(block)];
    if (owner != world_.rank()) resize(parameters, true);
    std::int64_t held = 0;
    for (const auto& tensors : blocks_) {
      for (const at::Tensor& tensor : tensors) {
        held += static_cast<std::int64_t>(tensor.storage().nbytes());
      }
    }
    peak_bytes_ = std::max(peak_bytes_, held);
    for (const at::Tensor& tensor : parameters) world_.broadcast(buffer_of(tensor), owner).wait();
  }

  void release(int block) {
    if (block % world_.size() != world_.rank()) {
      resize(blocks_[static_cast<std::size_t>(block)], false);
    }
  }

  // The StorageImpl stays: what autograd has saved sees the gathered values.
  static void resize(const std::vector<at::Tensor>& parameters, bool hold) {
    for (const at::Tensor& tensor : parameters) {
      const std::size_t bytes = hold ? tensor.nbytes() : 0;
      at::Storage storage = tensor.storage();
      storage.set_data_ptr(c10::GetCPUAllocator()->allocate(bytes));
      storage.set_nbytes(bytes);
    }
  }

  Communicator& world_;
  ReductionTree tree_;
  std::vector<std::vector<at::Tensor>> blocks_;
  std::vector<int> owner_of_;  // of each parameter
  std::vector<at::Tensor> sums_;
  std::vector<Shard> shards_;
  std::int64_t own_bytes_ = 0, peak_bytes_ = 0;
  double weight_ = 1, loss_ = 0;
  std::int64_t stop_ = 0;
};

}  // namespace trireme::test
