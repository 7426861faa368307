#pragma once

#include <torch/nn/module.h>
#include <torch/nn/modules/container/sequential.h>

#include <concepts>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "trireme/model/model.h"

namespace trireme {

/// A libtorch module that computes one tensor from one tensor.
template <class Module>
concept TensorModule = std::derived_from<Module, torch::nn::Module> &&
    requires(Module& module, const at::Tensor& x) {
  { module.forward(x) } -> std::convertible_to<at::Tensor>;
};

/// tensors_of(module), with `prefix` before each name.
NamedTensors tensors_of(const torch::nn::Module& module, const std::string& prefix);

/// A libtorch module as a block. `prefix` comes before the names that the module gives its tensors.
/// A module that has a function seed(std::uint64_t) draws its random numbers itself; the others use
/// libtorch's generator. One that has a function set_positions(const at::Tensor&) is told
/// Batch::positions, and one that has set_compute(const ComputeType&) how to multiply.
template <TensorModule Module>
class ModuleBlock final : public Block {
 public:
  explicit ModuleBlock(std::shared_ptr<Module> module, std::string prefix = "")
      : module_(std::move(module)), prefix_(std::move(prefix)) {}

  at::Tensor forward(const at::Tensor& input) override { return module_->forward(input); }
  NamedTensors tensors() const override { return tensors_of(*module_, prefix_); }
  void train(bool on) override { module_->train(on); }
  void set_positions(const at::Tensor& positions) override {
    if constexpr (requires { module_->set_positions(positions); }) {
      module_->set_positions(positions);
    }
  }
  bool set_compute(const ComputeType& compute) override {
    if constexpr (requires { module_->set_compute(compute); }) {
      module_->set_compute(compute);
      return true;
    } else {
      return Block::set_compute(compute);
    }
  }
  void seed(std::uint64_t seed) override {
    if constexpr (requires { module_->seed(seed); }) {
      module_->seed(seed);
    } else {
      Block::seed(seed);
    }
  }

 private:
  std::shared_ptr<Module> module_;
  std::string prefix_;
};

/// Appends a module as a block.
template <TensorModule Module>
void append_module(std::vector<std::unique_ptr<Block>>& blocks, std::shared_ptr<Module> module,
                   std::string prefix = "", const BlockDone& done = {}) {
  append_block(blocks, std::make_unique<ModuleBlock<Module>>(std::move(module), std::move(prefix)),
               done);
}

/// A module as a model of one block. Throws UsageError if two of its tensors have the same name.
///
///     auto model = model_of(std::make_shared<MyModule>());
template <TensorModule Module>
std::unique_ptr<Model> model_of(std::shared_ptr<Module> module) {
  std::vector<std::unique_ptr<Block>> blocks;
  blocks.push_back(std::make_unique<ModuleBlock<Module>>(std::move(module)));
  return std::make_unique<Model>(std::move(blocks));
}

/// A Sequential as a model with one block for each child, which must compute one tensor from one
/// tensor. The tensors have the names that the Sequential gives them: "0.weight" and so on.
std::unique_ptr<Model> model_of(torch::nn::Sequential module);

/// The blocks of a module whose own type the caller does not know: one for each child of a
/// Sequential, and one for any other module. `module` must outlive the model. Only the model of a
/// Sequential can compute: forward() of any other throws UsageError, and the caller calls the
/// module's own forward(), around which there are no BlockHooks.
std::unique_ptr<Model> model_over(torch::nn::Module& module);

}  // namespace trireme
