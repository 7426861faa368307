#include "tests/parallel/block_owner.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/nn/functional/loss.h>
#include <torch/nn/modules/linear.h>
#include <torch/nn/modules/normalization.h>

#include <cmath>

#include "tests/comm/ranks.h"
#include "tests/tensor/random_tensor.h"
#include "trireme/model/module_block.h"
#include "trireme/optim/adam.h"
#include "trireme/parallel/replicated.h"

namespace trireme {
namespace {

using test::random_tensor;

constexpr std::int64_t kWidth = 12;
constexpr std::int64_t kHeads = 3;
constexpr int kBlocks = 4;
constexpr int kSteps = 3;

struct Transformer : torch::nn::Module {
  Transformer() {
    for (const auto& [name, norm] : {std::pair("norm1", &norm1), std::pair("norm2", &norm2)}) {
      register_module(name, *norm);
    }
    register_module("qkv", qkv);
    register_module("projection", projection);
    register_module("up", up);
    register_module("down", down);
  }

  // x: [n, tokens, kWidth]
  at::Tensor forward(const at::Tensor& x) {
    const auto heads = [&](const at::Tensor& part) {
      return part.view({x.size(0), x.size(1), kHeads, kWidth / kHeads}).transpose(1, 2);
    };
    const auto parts = qkv(norm1(x)).chunk(3, 2);
    const at::Tensor scores = heads(parts[0]).matmul(heads(parts[1]).transpose(2, 3));
    const at::Tensor mixed = scores.softmax(3).matmul(heads(parts[2]));
    const at::Tensor y = x + projection(mixed.transpose(1, 2).reshape(x.sizes()));
    return y + down(up(norm2(y)).relu());
  }

  torch::nn::LayerNorm norm1{torch::nn::LayerNormOptions({kWidth})};
  torch::nn::LayerNorm norm2{torch::nn::LayerNormOptions({kWidth})};
  torch::nn::Linear qkv{kWidth, 3 * kWidth}, projection{kWidth, kWidth};
  torch::nn::Linear up{kWidth, 4 * kWidth}, down{4 * kWidth, kWidth};
};

std::unique_ptr<Model> transformer() {
  std::vector<std::unique_ptr<Block>> blocks;
  std::uint64_t seed = 1;
  for (int b = 0; b < kBlocks; ++b) {
    auto module = std::make_shared<Transformer>();
    const at::NoGradGuard no_grad;
    for (at::Tensor& p : module->parameters()) p.copy_(random_tensor(p.sizes(), seed++).mul_(0.2));
    blocks.push_back(
        std::make_unique<ModuleBlock<Transformer>>(module, "block" + std::to_string(b) + "."));
  }
  return std::make_unique<Model>(std::move(blocks));
}

std::vector<double> train(Strategy& strategy, Model& model, Optimizer& optimizer) {
  std::vector<double> losses;
  const Range mine = strategy.virtual_workers();
  for (int step = 0; step < kSteps; ++step) {
    strategy.begin();
    for (std::int64_t worker = mine.begin; worker < mine.end; ++worker) {
      const auto seed = static_cast<std::uint64_t>(1000 + 100 * step + worker);
      const at::Tensor output = model.forward(random_tensor({2, 5, kWidth}, seed));
      strategy.backward(torch::mse_loss(output, random_tensor({2, 5, kWidth}, seed + 50)));
    }
    losses.push_back(strategy.reduce_gradients().loss);
    strategy.update(optimizer);
  }
  return losses;
}

class BlockOwnerStrategy : public testing::TestWithParam<int> {};

TEST_P(BlockOwnerStrategy, HoldsOneGatheredBlockAtATimeAndTrainsLikeReplicated) {
  constexpr int kPasses = 2;
  const int ranks = GetParam();
  std::vector<at::Tensor> expected;
  std::vector<double> expected_losses;
  test::run_ranks(ranks, [&](Communicator& world) {
    const auto model = transformer();
    const auto strategy = replicated(world, {.virtual_workers = kPasses * ranks});
    Adam adam(strategy->attach(*model), {.lr = 0.01});
    const std::vector<double> losses = train(*strategy, *model, adam);
    if (world.rank() > 0) return;
    expected_losses = losses;
    for (const auto& [name, tensor] : model->tensors().parameters) {
      expected.push_back(tensor.detach().clone());
    }
  });
  test::run_ranks(ranks, [&](Communicator& world) {
    const auto model = transformer();
    std::int64_t bytes = 0;
    for (const auto& [name, tensor] : model->tensors().parameters) {
      bytes += static_cast<std::int64_t>(tensor.nbytes());
    }
    test::BlockOwner strategy(world, kPasses);
    const auto shards = strategy.attach(*model);
    Adam adam(shards, {.lr = 0.01});
    EXPECT_EQ(train(strategy, *model, adam), expected_losses);

    const std::int64_t own_blocks = partition(kBlocks, ranks, world.rank()).size();
    EXPECT_EQ(strategy.own_bytes(), own_blocks * bytes / kBlocks);
    const std::int64_t gathered = ranks > 1 ? bytes / kBlocks : 0;
    EXPECT_EQ(strategy.peak_bytes(), strategy.own_bytes() + gathered);
    std::size_t p = 0, own = 0;
    for (const auto& [name, tensor] : model->tensors().parameters) {
      const at::Tensor& wanted = expected[p++];
      if (own == shards.size() || shards[own].name != name) {
        EXPECT_EQ(tensor.storage().nbytes(), 0U) << name;
        continue;
      }
      ++own;
      EXPECT_TRUE(tensor.equal(wanted)) << name;
    }
    EXPECT_EQ(own, shards.size());
  });
}

INSTANTIATE_TEST_SUITE_P(Ranks, BlockOwnerStrategy, testing::Values(1, 2, 3, 4),
                         testing::PrintToStringParamName());

}  // namespace
}  // namespace trireme
