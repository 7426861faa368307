#pragma once

#include <torch/nn/module.h>

#include <memory>
#include <utility>

#include "trireme/model/model.h"

namespace trireme {

/// Any libtorch module whose forward takes and returns one tensor, as a Model.
///
///     auto model = model_of(std::make_shared<MyModule>());
template <class Module>
class ModuleModel final : public Model {
 public:
  explicit ModuleModel(std::shared_ptr<Module> module) : module_(std::move(module)) {}

  at::Tensor forward(const at::Tensor& input) override { return module_->forward(input); }
  NamedTensors tensors() const override { return tensors_of(*module_); }
  void train(bool on) override { module_->train(on); }

 private:
  std::shared_ptr<Module> module_;
};

template <class Module>
std::unique_ptr<Model> model_of(std::shared_ptr<Module> module) {
  return std::make_unique<ModuleModel<Module>>(std::move(module));
}

}  // namespace trireme
