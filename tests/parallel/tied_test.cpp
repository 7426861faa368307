// A tensor with several names is one parameter.

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/nn/modules/container/sequential.h>
#include <torch/nn/modules/linear.h>
#include <torch/optim/sgd.h>

#include <cmath>

#include "tests/comm/ranks.h"
#include "tests/parallel/named_strategies.h"
#include "tests/tensor/random_tensor.h"
#include "trireme/model/module_block.h"
#include "trireme/optim/sgd.h"

namespace trireme {
namespace {

using test::random_tensor;

// An autoencoder whose decoder has the encoder's weight, as a module of its own; and a layer that
// is registered twice.
struct Tied : torch::nn::Module {
  Tied() {
    encoder = register_module("encoder", torch::nn::Linear(torch::nn::LinearOptions(4, 4)));
    middle = register_module("middle", torch::nn::Linear(4, 4));
    register_module("again", middle);
    decoder_weight = register_parameter("decoder_weight", encoder->weight);
    std::uint64_t seed = 1;
    const at::NoGradGuard no_grad;
    for (const at::Tensor& p : {encoder->weight, encoder->bias, middle->weight, middle->bias}) {
      p.copy_(random_tensor(p.sizes(), seed++).mul_(0.5));
    }
  }

  at::Tensor forward(const at::Tensor& x) {
    return at::matmul(middle(middle(encoder(x)).tanh()), decoder_weight);
  }

  torch::nn::Linear encoder{nullptr}, middle{nullptr};
  at::Tensor decoder_weight;
};

at::Tensor loss_of(Tied& net, int step) {
  return net.forward(random_tensor({6, 4}, static_cast<std::uint64_t>(100 + step))).square().sum();
}

class TiedParameters : public testing::TestWithParam<std::tuple<std::string, int>> {};

TEST_P(TiedParameters, TrainAsOneProcessOfLibtorchDoes) {
  const auto [name, ranks] = GetParam();
  // The servers of these tests descend by plain SGD.
  const double momentum = name == "parameter_server" ? 0 : 0.9;
  Tied reference;
  torch::optim::SGD sgd({reference.encoder->weight, reference.encoder->bias,
                         reference.middle->weight, reference.middle->bias},
                        torch::optim::SGDOptions(0.01).momentum(momentum));
  double last_norm = 0;
  for (int step = 0; step < 3; ++step) {
    sgd.zero_grad();
    loss_of(reference, step).backward();
    double squares = 0;
    for (const at::Tensor& p : sgd.param_groups()[0].params()) {
      squares += p.grad().to(at::kDouble).square().sum().item<double>();
    }
    last_norm = std::sqrt(squares);
    sgd.step();
  }
  test::run_ranks(ranks, [&, name = name](Communicator& world) {
    Tied net;
    const auto strategy = test::strategy_named(name, world);
    const auto shards = strategy->attach(net);
    Sgd optimizer(shards, {.lr = 0.01, .momentum = momentum});
    double norm = 0;
    for (int step = 0; step < 3; ++step) {
      strategy->begin();
      strategy->backward(loss_of(net, step));  // the mean over ranks that have the same samples
      strategy->reduce_gradients();
      norm = strategy->gradient_norm();
      strategy->update(optimizer);
    }
    EXPECT_NEAR(norm, last_norm, 1e-5 * last_norm);
    EXPECT_TRUE(net.encoder->weight.allclose(reference.encoder->weight, 1e-5, 1e-6));
    EXPECT_TRUE(net.middle->bias.allclose(reference.middle->bias, 1e-5, 1e-6));
    EXPECT_EQ(net.decoder_weight.data_ptr(), net.encoder->weight.data_ptr());
    if (strategy->shards_are_whole()) {
      EXPECT_EQ(shards.size(), 4u);
    }
    world.barrier();
  });
}

INSTANTIATE_TEST_SUITE_P(Ranks, TiedParameters,
                         testing::Combine(test::kStrategyNames, testing::Values(1, 2, 3)),
                         test::strategy_on_ranks);

// Tied across blocks: the first and the last child of a Sequential.
TEST(TiedParametersOfBlocks, AreOneParameterUnderTheFirstName) {
  torch::nn::Linear first(3, 3), last(3, 3);
  torch::nn::Sequential module(first, torch::nn::Linear(3, 3), first, last);
  const auto model = model_of(module);
  std::vector<std::string> names;
  for (const auto& [name, tensor] : model->tensors().parameters) names.push_back(name);
  EXPECT_THAT(names, testing::ElementsAre("0.weight", "0.bias", "1.weight", "1.bias", "3.weight",
                                          "3.bias"));
}

}  // namespace
}  // namespace trireme
