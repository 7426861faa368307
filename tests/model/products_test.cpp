// Products of rounded operands against libtorch's own rounding and products in f64.

#include "trireme/model/products.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/nn/modules/linear.h>

#include <cmath>
#include <limits>
#include <memory>

#include "trireme/base/error.h"
#include "trireme/model/gpt/gpt.h"
#include "trireme/model/layers.h"
#include "trireme/model/model.h"
#include "trireme/model/module_block.h"
#include "trireme/tensor/named_tensors.h"

namespace trireme {
namespace {

using testing::HasSubstr;

constexpr ComputeType kBf16{.operands = DType::kBF16};
constexpr ComputeType kF16{.operands = DType::kF16};
constexpr ComputeType kNative{.operands = DType::kBF16, .native = true};

at::Tensor values(at::IntArrayRef sizes, std::uint64_t seed) {
  at::manual_seed(seed);
  return at::randn(sizes, at::kFloat);
}

double distance(const at::Tensor& a, const at::Tensor& b) {
  const at::Tensor wide = b.to(at::kDouble);
  return ((a.to(at::kDouble) - wide).norm() / wide.norm()).item<double>();
}

class RoundedProduct : public testing::TestWithParam<DType> {
 protected:
  at::Tensor rounded(const at::Tensor& x) const {
    return x.detach().to(scalar_type_of(GetParam())).to(at::kDouble);
  }
};
INSTANTIATE_TEST_SUITE_P(Types, RoundedProduct, testing::Values(DType::kBF16, DType::kF16),
                         [](const auto& info) { return std::string(name_of(info.param)); });

TEST_P(RoundedProduct, IsThatOfRoundedOperandsForwardAndBackward) {
  const ComputeType compute{.operands = GetParam()};
  for (const bool is_transposed : {false, true}) {
    const at::Tensor x = values({2, 5, 37}, 1).requires_grad_(true);
    at::Tensor weight = values({37, 11}, 2);
    if (is_transposed) weight = weight.t().contiguous();
    weight.requires_grad_(true);
    const at::Tensor bias = values({11}, 3).requires_grad_(true);
    const at::Tensor dy = values({2, 5, 11}, 4);
    const at::Tensor y =
        is_transposed ? linear({x, compute}, weight, bias) : multiply({x, compute}, weight, bias);
    y.backward(dy);

    const at::Tensor rx = rounded(x).view({10, 37});
    at::Tensor rw = rounded(weight);
    if (is_transposed) rw = rw.t();
    const at::Tensor rdy = rounded(dy).view({10, 11});
    const at::Tensor dw = rx.t().mm(rdy);
    EXPECT_LT(distance(y.view({10, 11}), rx.mm(rw) + bias.detach().to(at::kDouble)), 1e-6);
    EXPECT_LT(distance(x.grad().view({10, 37}), rdy.mm(rw.t())), 1e-6);
    EXPECT_LT(distance(weight.grad(), is_transposed ? dw.t() : dw), 1e-6);
    EXPECT_LT(distance(bias.grad(), dy.to(at::kDouble).sum(at::IntArrayRef{0, 1})), 1e-6);
    // The rounding shows.
    EXPECT_GT(
        distance(y.view({10, 11}), x.detach().view({10, 37}).mm(is_transposed ? weight.detach().t()
                                                                              : weight.detach()) +
                                       bias.detach()),
        GetParam() == DType::kBF16 ? 1e-3 : 1e-4);
  }
}

TEST(NativeProduct, IsLibtorchsOfBf16) {
  const at::Tensor x = values({6, 16}, 1), weight = values({16, 4}, 2), bias = values({4}, 3);
  const at::Tensor wanted = x.to(at::kBFloat16).mm(weight.to(at::kBFloat16)).to(at::kFloat) + bias;
  EXPECT_TRUE(at::equal(multiply({x, kNative}, weight, bias), wanted));
}

TEST(RoundedProduct, OverflowsWhereF16Does) {
  const at::Tensor x = at::full({1, 1}, 65520.0f), one = at::ones({1, 1});
  EXPECT_TRUE(std::isinf(multiply({x, kF16}, one).item<float>()));
  EXPECT_EQ(multiply({x - 1, kF16}, one).item<float>(), 65504.0f);
  EXPECT_EQ(multiply({x, kBf16}, one).item<float>(), 65536.0f);
}

TEST(RoundedProduct, RefusesF64) {
  const at::Tensor x = at::ones({2, 2}, at::kDouble);
  EXPECT_THAT(
      [&] {
        multiply({x, kBf16}, x);
      },
      testing::ThrowsMessage<UsageError>(HasSubstr("needs matrices of f32, got Double")));
}

GptShape small() {
  return {.vocabulary = 50,
          .context = 16,
          .layers = 2,
          .width = 32,
          .heads = 4,
          .kv_heads = 4,
          .mlp_width = 64};
}

struct Computed {
  at::Tensor loss;
  std::vector<at::Tensor> gradients;
};

Computed compute(Blocks blocks, const ComputeType& type, Recompute recompute = Recompute::kNone) {
  Model model(std::move(blocks));
  initialize(model.tensors(), gpt_initial_values(small().layers, 1));
  model.set_compute(type);
  model.set_recompute(recompute);
  at::manual_seed(5);
  const Batch batch(at::randint(50, {3, 16}, at::kLong), at::randint(50, {3, 16}, at::kLong), 48);
  const LossSum loss = model.loss(batch, make_loss(Target::tokens(50, 16)));
  loss.sum.backward();
  Computed result{.loss = loss.sum.detach()};
  for (const auto& [name, tensor] : model.tensors().parameters) {
    result.gradients.push_back(tensor.grad());
  }
  return result;
}

Blocks blocks_of(const std::string& name) {
  GptShape shape = small();
  if (name == "gpt2") return gpt2_blocks(shape);
  shape.kv_heads = 2;
  return llama_blocks(shape);
}

class MixedPrecision : public testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(Models, MixedPrecision, testing::Values("gpt2", "llama"),
                         [](const auto& info) { return info.param; });

TEST_P(MixedPrecision, IsNearF32) {
  const Computed exact = compute(blocks_of(GetParam()), {});
  for (const auto& [type, near] :
       {std::pair(kBf16, 0.03), std::pair(kNative, 0.05), std::pair(kF16, 0.004)}) {
    const Computed mixed = compute(blocks_of(GetParam()), type);
    EXPECT_LT(distance(mixed.loss, exact.loss), near / 10);
    EXPECT_FALSE(at::equal(mixed.loss, exact.loss));
    for (std::size_t i = 0; i < exact.gradients.size(); ++i) {
      EXPECT_EQ(mixed.gradients[i].scalar_type(), at::kFloat);
      EXPECT_LT(distance(mixed.gradients[i], exact.gradients[i]), near) << i;
      EXPECT_GT(distance(mixed.gradients[i], exact.gradients[i]), near / 1000) << i;
    }
  }
}

TEST_P(MixedPrecision, HasTheSameBitsWithRecomputation) {
  for (const ComputeType& type : {kBf16, kF16, kNative}) {
    const Computed kept = compute(blocks_of(GetParam()), type);
    for (const Recompute recompute : {Recompute::kSelective, Recompute::kFull}) {
      const Computed again = compute(blocks_of(GetParam()), type, recompute);
      EXPECT_TRUE(at::equal(again.loss, kept.loss));
      for (std::size_t i = 0; i < kept.gradients.size(); ++i) {
        EXPECT_TRUE(at::equal(again.gradients[i], kept.gradients[i])) << i;
      }
    }
  }
}

// A user's module, which knows nothing of precision.
TEST(MixedPrecisionOfModules, IsThatOfAutocastWhereTheProcessorHasBf16) {
  const auto module = std::make_shared<torch::nn::LinearImpl>(16, 4);
  const auto model = model_of(module);
  const at::Tensor x = values({6, 16}, 1);
  model->set_compute(kNative);
  const at::Tensor y = model->forward(x);
  EXPECT_EQ(y.scalar_type(), at::kFloat);
  const at::Tensor wanted =
      at::linear(x.to(at::kBFloat16), module->weight.detach().to(at::kBFloat16),
                 module->bias.detach().to(at::kBFloat16));
  EXPECT_TRUE(at::equal(y, wanted.to(at::kFloat)));
  y.sum().backward();
  EXPECT_EQ(module->weight.grad().scalar_type(), at::kFloat);
  {
    // The next forward pass sees new weights.
    const at::NoGradGuard no_grad;
    module->weight.zero_();
    module->bias.zero_();
  }
  EXPECT_EQ(model->forward(x).abs().max().item<float>(), 0);

  model->set_compute(kBf16);
  EXPECT_TRUE(at::equal(model->forward(x), module->forward(x)));
}

TEST(MixedPrecisionOfModules, RefusesNativeF16) {
  const auto model = model_of(std::make_shared<torch::nn::LinearImpl>(16, 4));
  EXPECT_THAT([&] { model->set_compute({.operands = DType::kF16, .native = true}); },
              testing::ThrowsMessage<UsageError>(HasSubstr("multiplies bf16 and no f16")));
}

// Weights are rounded for products only: what is smaller than their last bit in bf16 is not lost.
TEST(MixedPrecisionUpdates, AreAddedInF32) {
  const auto layer = std::make_shared<LinearLayer>(1, 1);
  layer->set_compute(kBf16);
  {
    const at::NoGradGuard no_grad;
    layer->weight.fill_(1);
    layer->bias.zero_();
  }
  for (int step = 0; step < 100; ++step) {
    layer->zero_grad();
    layer->forward(at::ones({1, 1})).sum().backward();
    const at::NoGradGuard no_grad;
    layer->weight.sub_(layer->weight.grad(), 1e-4);
  }
  EXPECT_NEAR(layer->weight.item<float>(), 0.99, 1e-5);
  const at::NoGradGuard no_grad;
  layer->bias.zero_();
  // 0.99 in bf16.
  EXPECT_EQ(layer->forward(at::ones({1, 1})).item<float>(), 0.98828125f);
}

}  // namespace
}  // namespace trireme
