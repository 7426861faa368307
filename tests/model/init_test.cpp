#include "trireme/model/init.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <string>

#include "trireme/base/error.h"
#include "trireme/model/orthogonal.h"

namespace trireme {
namespace {

struct Distribution {
  double mean = 0;
  double deviation = 0;
  double largest = 0;
};

Distribution distribution_of(const at::Tensor& values) {
  const at::Tensor x = values.to(at::kDouble);
  return {x.mean().item<double>(), x.std(false).item<double>(), x.abs().max().item<double>()};
}

at::Tensor initialized(at::IntArrayRef shape, std::string_view name,
                       std::string_view activation = "linear", std::uint64_t seed = 1) {
  NamedTensors model;
  model.parameters.emplace_back("weight", at::full(shape, 7.0));
  initialize(model, name, seed, activation);
  return model.parameters[0].second;
}

// Three standard errors of the estimate from n numbers.
void expect_normal(const at::Tensor& values, double deviation) {
  const auto n = static_cast<double>(values.numel());
  const Distribution found = distribution_of(values);
  EXPECT_NEAR(found.mean, 0, 3 * deviation / std::sqrt(n));
  EXPECT_NEAR(found.deviation, deviation, 3 * deviation / std::sqrt(2 * n));
  EXPECT_GT(found.largest, 3 * deviation);
}

void expect_uniform(const at::Tensor& values, double bound) {
  const auto n = static_cast<double>(values.numel());
  const Distribution found = distribution_of(values);
  EXPECT_NEAR(found.mean, 0, 3 * bound / std::sqrt(3 * n));
  EXPECT_NEAR(found.deviation, bound / std::sqrt(3), bound / std::sqrt(n));
  EXPECT_LE(found.largest, bound);
  EXPECT_GT(found.largest, 0.99 * bound);
}

// A weight [50, 40, 3, 3] has 360 connections into a unit and 450 out of it.
const std::vector<std::int64_t> kConvolution = {50, 40, 3, 3};

TEST(Init, XavierFollowsGlorotAndBengio) {
  expect_uniform(initialized(kConvolution, "xavier_uniform"), std::sqrt(6.0 / 810));
  expect_normal(initialized(kConvolution, "xavier_normal"), std::sqrt(2.0 / 810));
  expect_normal(initialized(kConvolution, "xavier_normal", "tanh"), 5.0 / 3 * std::sqrt(2.0 / 810));
}

TEST(Init, KaimingFollowsHe) {
  expect_normal(initialized(kConvolution, "kaiming_normal", "relu"), std::sqrt(2.0 / 360));
  expect_uniform(initialized(kConvolution, "kaiming_uniform", "relu"), std::sqrt(6.0 / 360));
  expect_normal(initialized({300, 200}, "kaiming_normal", "sigmoid"), std::sqrt(1.0 / 200));
}

TEST(Init, DefaultDrawsWeightsAndBiasesAsLibtorchDoes) {
  NamedTensors model;
  model.parameters.emplace_back("fc.weight", at::zeros({500, 64}));
  model.parameters.emplace_back("fc.bias", at::zeros({500}));
  initialize(model, "default", 1);
  expect_uniform(model.parameters[0].second, 1.0 / 8);
  expect_uniform(model.parameters[1].second, 1.0 / 8);
}

TEST(Init, OrthogonalRowsOrColumnsAreOrthonormalTimesTheGain) {
  const at::Tensor wide = initialized({20, 7, 3, 3}, "orthogonal", "relu").reshape({20, 63});
  EXPECT_TRUE(at::allclose(wide.mm(wide.t()), 2 * at::eye(20), 1e-5, 1e-6));
  const at::Tensor tall = initialized({63, 20}, "orthogonal", "relu");
  EXPECT_TRUE(at::allclose(tall.t().mm(tall), 2 * at::eye(20), 1e-5, 1e-6));
  const at::Tensor square = initialized({150, 150}, "orthogonal");
  EXPECT_TRUE(at::allclose(square.mm(square.t()), at::eye(150), 1e-5, 1e-6));
}

TEST(Init, OrthogonalizeKeepsTheFirstDirection) {
  std::vector<double> matrix = {3, 4, 0, 1, 0, 0};
  orthogonalize(matrix, 2, 10);
  const std::vector<double> expected = {6, 8, 0, 8, -6, 0};
  EXPECT_THAT(matrix, testing::Pointwise(testing::DoubleNear(1e-12), expected));
}

TEST(Init, ZeroIsZero) {
  EXPECT_EQ(initialized({5, 4}, "zero").count_nonzero().item<int>(), 0);
}

TEST(Init, BiasesBecomeZeroAndScalesStayOne) {
  NamedTensors model;
  model.parameters.emplace_back("bn.weight", at::ones({8}));
  model.parameters.emplace_back("bn.bias", at::full({8}, 3.0));
  model.parameters.emplace_back("fc.bias", at::full({8}, 3.0));
  initialize(model, "xavier_normal", 1);
  EXPECT_TRUE(model.parameters[0].second.eq(1).all().item<bool>());
  EXPECT_TRUE(model.parameters[1].second.eq(0).all().item<bool>());
  EXPECT_TRUE(model.parameters[2].second.eq(0).all().item<bool>());
}

TEST(Init, DependsOnSeedAndNameAlone) {
  NamedTensors model;
  for (const char* name : {"a", "b"}) model.parameters.emplace_back(name, at::zeros({30, 30}));
  initialize(model, "xavier_normal", 5);
  const at::Tensor a = model.parameters[0].second.clone();
  EXPECT_FALSE(a.equal(model.parameters[1].second));

  std::swap(model.parameters[0], model.parameters[1]);
  at::manual_seed(99);
  initialize(model, "xavier_normal", 5);
  EXPECT_TRUE(a.equal(model.parameters[1].second));
  initialize(model, "xavier_normal", 6);
  EXPECT_FALSE(a.equal(model.parameters[1].second));
}

TEST(Init, DrawsTheSameInEveryTypeUpToRounding) {
  NamedTensors model;
  model.parameters.emplace_back("weight", at::zeros({9, 9}, at::kDouble));
  initialize(model, "xavier_uniform", 1);
  EXPECT_TRUE(
      model.parameters[0].second.to(at::kFloat).equal(initialized({9, 9}, "xavier_uniform")));
}

TEST(Init, RefusesAnUnknownNameAndListsTheKnown) {
  try {
    initialized({2, 2}, "xavier");
    FAIL();
  } catch (const UsageError& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("xavier_uniform, xavier_normal"));
    EXPECT_THAT(error.what(), testing::HasSubstr("got \"xavier\""));
  }
  EXPECT_THROW(gain_of("swish"), UsageError);
}

}  // namespace
}  // namespace trireme
