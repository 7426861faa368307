#include "trireme/model/model.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/nn/modules/activation.h>
#include <torch/nn/modules/dropout.h>
#include <torch/nn/modules/linear.h>

#include "trireme/base/error.h"
#include "trireme/model/module_block.h"

namespace trireme {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::vector<std::string> parameters_of(const NamedTensors& tensors) {
  std::vector<std::string> names;
  for (const auto& [name, tensor] : tensors.parameters) names.push_back(name);
  return names;
}

// Writes down the calls, and which gradients there were at each.
class Calls final : public BlockHooks {
 public:
  explicit Calls(const Model& model) : model_(model) {}

  void before_forward(int block) override { note("forward", block, '<'); }
  void after_forward(int block) override { note("forward", block, '>'); }
  void before_backward(int block) override { note("backward", block, '<'); }
  void after_backward(int block) override {
    note("backward", block, '>');
    const auto& unit = model_.blocks()[static_cast<std::size_t>(block)];
    for (const auto& [name, parameter] : unit->tensors().parameters) {
      EXPECT_EQ(parameter.grad().defined(), parameter.requires_grad()) << name;
    }
  }

  std::vector<std::string> calls;

 private:
  void note(const char* what, int block, char side) {
    calls.push_back(side == '<' ? fmt::format("{} {} <", what, block)
                                : fmt::format("{} {} >", what, block));
  }

  const Model& model_;
};

struct Doubled : torch::nn::Module {
  at::Tensor forward(const at::Tensor& x) { return inner(x) * 2; }
  torch::nn::Linear inner = register_module("inner", torch::nn::Linear(3, 3));
};

TEST(Model, HasABlockForEachChildOfASequential) {
  torch::nn::Sequential module(torch::nn::Linear(3, 4), torch::nn::ReLU(), torch::nn::Linear(4, 2));
  const auto model = model_of(module);
  ASSERT_EQ(model->blocks().size(), 3u);
  EXPECT_THAT(parameters_of(model->blocks()[0]->tensors()), ElementsAre("0.weight", "0.bias"));
  EXPECT_THAT(parameters_of(model->blocks()[1]->tensors()), ElementsAre());
  EXPECT_THAT(parameters_of(model->tensors()), testing::Eq(parameters_of(tensors_of(*module))));
  const at::Tensor x = at::rand({5, 3});
  EXPECT_TRUE(model->forward(x).equal(module->forward(x)));
}

TEST(Model, IsOneBlockForAnyOtherModule) {
  const auto module = std::make_shared<Doubled>();
  const auto model = model_of(module);
  ASSERT_EQ(model->blocks().size(), 1u);
  EXPECT_THAT(parameters_of(model->tensors()), ElementsAre("inner.weight", "inner.bias"));
  const at::Tensor x = at::rand({5, 3});
  EXPECT_TRUE(model->forward(x).equal(module->forward(x)));
}

TEST(Model, OverAModuleOfUnknownTypeHasItsTensorsAndRefusesToCompute) {
  Doubled doubled;
  const auto model = model_over(doubled);
  EXPECT_TRUE(model->tensors().parameters[0].second.is_same(doubled.inner->weight));
  try {
    model->forward(at::rand({5, 3}));
    FAIL();
  } catch (const UsageError& error) {
    EXPECT_THAT(error.what(), HasSubstr("call the module's own forward()"));
  }
  torch::nn::Sequential sequential(torch::nn::Linear(3, 4), torch::nn::Tanh());
  EXPECT_EQ(model_over(*sequential)->blocks().size(), 2u);
}

TEST(Model, ForwardOfRangesOneAfterAnotherIsForward) {
  torch::nn::Sequential module(torch::nn::Linear(3, 4), torch::nn::Tanh(), torch::nn::Linear(4, 2));
  const auto model = model_of(module);
  const at::Tensor x = at::rand({5, 3});
  EXPECT_TRUE(model->forward(model->forward(x, {0, 1}), {1, 3}).equal(model->forward(x)));
  for (const Range range : {Range{0, 4}, Range{-1, 2}, Range{2, 2}, Range{3, 4}}) {
    EXPECT_THROW(model->forward(x, range), UsageError) << range.begin << ", " << range.end;
  }
}

TEST(Model, NamesEachTensorOnce) {
  std::vector<std::unique_ptr<Block>> blocks;
  EXPECT_THROW(Model(std::move(blocks)), UsageError);
  for (int i = 0; i < 2; ++i) {
    blocks.push_back(std::make_unique<ModuleBlock<Doubled>>(std::make_shared<Doubled>(), "x."));
  }
  try {
    Model model(std::move(blocks));
    FAIL();
  } catch (const UsageError& error) {
    EXPECT_THAT(error.what(), HasSubstr("two named \"x.inner.weight\""));
  }
}

TEST(Model, CallsHooksAroundEachBlocksForwardAndBackward) {
  // The first block's input has no gradient; the second works in place on a view that the third
  // returns as it is; the fourth has parameters.
  torch::nn::Sequential module(
      torch::nn::Linear(4, 4), torch::nn::ReLU(torch::nn::ReLUOptions(true)),
      torch::nn::Dropout(torch::nn::DropoutOptions(0)), torch::nn::Linear(4, 2));
  const auto model = model_of(module);
  Calls calls(*model);
  model->add_hooks(calls);
  const at::Tensor x = at::rand({5, 4});
  const at::Tensor loss = model->forward(x).square().sum();
  EXPECT_THAT(calls.calls, ElementsAre("forward 0 <", "forward 0 >", "forward 1 <", "forward 1 >",
                                       "forward 2 <", "forward 2 >", "forward 3 <", "forward 3 >"));
  calls.calls.clear();
  loss.backward();
  EXPECT_THAT(calls.calls,
              ElementsAre("backward 3 <", "backward 3 >", "backward 2 <", "backward 2 >",
                          "backward 1 <", "backward 1 >", "backward 0 <", "backward 0 >"));

  const at::Tensor hooked = module->parameters()[0].grad().clone();
  module->zero_grad();
  model->remove_hooks(calls);
  model->forward(x).square().sum().backward();
  EXPECT_TRUE(hooked.equal(module->parameters()[0].grad()));
}

TEST(Model, CallsHooksOfARangeThatBeginsWithAGradientOfItsInput) {
  torch::nn::Sequential module(torch::nn::Linear(3, 4), torch::nn::Linear(4, 4),
                               torch::nn::Linear(4, 2));
  const auto model = model_of(module);
  Calls calls(*model);
  model->add_hooks(calls);
  const at::Tensor input = at::rand({5, 4}).requires_grad_(true);
  const at::Tensor output = model->forward(input, {1, 3});
  calls.calls.clear();
  output.backward(at::ones_like(output));
  EXPECT_THAT(calls.calls,
              ElementsAre("backward 2 <", "backward 2 >", "backward 1 <", "backward 1 >"));
  EXPECT_TRUE(input.grad().defined());
}

TEST(Model, CallsNoBackwardHooksOfAFrozenBlock) {
  torch::nn::Sequential module(torch::nn::Linear(3, 4), torch::nn::Linear(4, 2));
  for (auto& parameter : module[0]->parameters()) parameter.requires_grad_(false);
  const auto model = model_of(module);
  Calls calls(*model);
  model->add_hooks(calls);
  const at::Tensor loss = model->forward(at::rand({5, 3})).sum();
  calls.calls.clear();
  loss.backward();
  EXPECT_THAT(calls.calls, ElementsAre("backward 1 <", "backward 1 >"));
}

TEST(Model, DrawsTheSameNumbersForTheSameKeyAndOthersInEachBlock) {
  const torch::nn::DropoutOptions half(0.5);
  torch::nn::Sequential module{torch::nn::Dropout(half), torch::nn::Dropout(half)};
  const auto model = model_of(module);
  const at::Tensor x = at::ones({100});
  const auto drawn = [&](RandomKey key, Range blocks) {
    model->set_random_key(key);
    return model->forward(x, blocks).gt(0);
  };
  const RandomKey key{.seed = 1, .step = 2, .virtual_worker = 3};
  const at::Tensor first = drawn(key, {0, 1});
  EXPECT_TRUE(first.equal(drawn(key, {0, 1})));
  EXPECT_FALSE(first.equal(drawn(key, {1, 2})));
  EXPECT_FALSE(first.equal(drawn({.seed = 2, .step = 2, .virtual_worker = 3}, {0, 1})));
  EXPECT_FALSE(first.equal(drawn({.seed = 1, .step = 3, .virtual_worker = 3}, {0, 1})));
  EXPECT_FALSE(first.equal(drawn({.seed = 1, .step = 2, .virtual_worker = 4}, {0, 1})));
  // A stage of the model draws what the whole model draws there.
  EXPECT_TRUE((first * drawn(key, {1, 2})).equal(drawn(key, {0, 2})));

  model->set_random_key(std::nullopt);
  at::manual_seed(5);
  const at::Tensor expected = at::rand({3});
  at::manual_seed(5);
  model->train(false);
  model->forward(x);
  EXPECT_TRUE(at::rand({3}).equal(expected)) << "evaluation must draw nothing and seed nothing";
}

}  // namespace
}  // namespace trireme
