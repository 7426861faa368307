#include "trireme/model/module_block.h"

#include "trireme/base/error.h"

namespace trireme {

namespace {

class ChildBlock final : public Block {
 public:
  ChildBlock(torch::nn::AnyModule child, std::string prefix)
      : child_(std::move(child)), prefix_(std::move(prefix)) {}

  at::Tensor forward(const at::Tensor& input) override { return child_.forward(input); }
  NamedTensors tensors() const override { return tensors_of(*child_.ptr(), prefix_); }
  void train(bool on) override { child_.ptr()->train(on); }

 private:
  torch::nn::AnyModule child_;
  std::string prefix_;
};

class UntypedBlock final : public Block {
 public:
  explicit UntypedBlock(torch::nn::Module& module) : module_(module) {}

  at::Tensor forward(const at::Tensor&) override {
    throw UsageError(
        "model: a torch::nn::Module& does not say how to compute; call the module's own forward(), "
        "or make the model with model_of(std::shared_ptr<YourModule>)");
  }
  NamedTensors tensors() const override { return trireme::tensors_of(module_); }
  void train(bool on) override { module_.train(on); }

 private:
  torch::nn::Module& module_;
};

std::unique_ptr<Model> model_of_children(torch::nn::SequentialImpl& sequential) {
  std::vector<std::unique_ptr<Block>> blocks;
  auto child = sequential.begin();
  for (const auto& item : sequential.named_children()) {
    blocks.push_back(std::make_unique<ChildBlock>(*child++, item.key() + "."));
  }
  return std::make_unique<Model>(std::move(blocks));
}

}  // namespace

NamedTensors tensors_of(const torch::nn::Module& module, const std::string& prefix) {
  NamedTensors tensors = tensors_of(module);
  for (auto* group : {&tensors.parameters, &tensors.buffers}) {
    for (auto& [name, tensor] : *group) name.insert(0, prefix);
  }
  return tensors;
}

std::unique_ptr<Model> model_of(torch::nn::Sequential module) {
  return model_of_children(*module);
}

std::unique_ptr<Model> model_over(torch::nn::Module& module) {
  if (auto* sequential = module.as<torch::nn::SequentialImpl>()) {
    return model_of_children(*sequential);
  }
  std::vector<std::unique_ptr<Block>> blocks;
  blocks.push_back(std::make_unique<UntypedBlock>(module));
  return std::make_unique<Model>(std::move(blocks));
}

}  // namespace trireme
