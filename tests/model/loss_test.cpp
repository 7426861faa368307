#include "trireme/model/loss.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "tests/formats/error_of.h"
#include "trireme/base/error.h"

namespace trireme {
namespace {

at::Tensor numbers(std::vector<double> values, at::IntArrayRef shape) {
  return at::tensor(values, at::kDouble).reshape(shape);
}

at::Tensor classes(std::vector<std::int64_t> values) {
  return at::tensor(values, at::kLong);
}

double mean_of(const LossSum& loss) {
  return loss.sum.item<double>() / loss.weight;
}

TEST(Loss, MseIsTheSumOverTheBatchOfTheMeanOverTheWidth) {
  const Loss loss = make_loss(Target::numbers(2));
  EXPECT_EQ(loss.outputs(), 2);
  const at::Tensor output = numbers({1, 2, 3, 4}, {2, 2});
  const LossSum sum = loss(output, numbers({0, 0, 0, 0}, {2, 2}));
  EXPECT_DOUBLE_EQ(sum.sum.item<double>(), 30.0 / 2);
  EXPECT_EQ(sum.weight, 2);
}

TEST(Loss, BceIsTheNegativeLogLikelihood) {
  const Loss loss = make_loss(Target::one_of(2));
  EXPECT_EQ(loss.outputs(), 1);
  const double expected =
      -(std::log(1 / (1 + std::exp(-0.5))) + std::log(1 - 1 / (1 + std::exp(2)))) / 2;
  const at::Tensor output = numbers({0.5, -2}, {2, 1});
  EXPECT_NEAR(mean_of(loss(output, classes({1, 0}))), expected, 1e-12);
}

TEST(Loss, CrossEntropyIsTheNegativeLogLikelihood) {
  const Loss loss = make_loss(Target::one_of(3));
  EXPECT_EQ(loss.outputs(), 3);
  const double normalizer = std::exp(1) + std::exp(2) + std::exp(0.5);
  const double expected = -(std::log(std::exp(2) / normalizer) + std::log(1.0 / 3)) / 2;
  const at::Tensor output = numbers({1, 2, 0.5, 4, 4, 4}, {2, 3});
  EXPECT_NEAR(mean_of(loss(output, classes({1, 2}))), expected, 1e-12);
}

TEST(Loss, OfPartsAddsUpToTheWhole) {
  at::manual_seed(4);
  const at::Tensor output = at::randn({10, 3}, at::kDouble),
                   labels = at::randint(3, {10}, at::kLong);
  const Loss loss = make_loss(Target::one_of(3));
  const LossSum whole = loss(output, labels);
  LossSum parts{at::zeros({}, at::kDouble), 0};
  for (const auto& [first, last] : {std::pair{0, 1}, {1, 6}, {6, 10}}) {
    const LossSum part = loss(output.slice(0, first, last), labels.slice(0, first, last));
    parts = {parts.sum + part.sum, parts.weight + part.weight};
  }
  EXPECT_NEAR(parts.sum.item<double>(), whole.sum.item<double>(), 1e-12);
  EXPECT_EQ(parts.weight, 10);
}

TEST(Loss, OfTokensCountsThoseThatAreNotPadding) {
  const Loss loss = make_loss(Target::tokens(3, 2));
  EXPECT_EQ(loss.outputs(), 3);
  const at::Tensor output =
      numbers({1, 2, 0.5, 7, 8, 9, 4, 4, 4, 0, 1, 0}, {2, 2, 3}).requires_grad_(true);
  const at::Tensor target = classes({1, Target::kIgnored, 2, 1}).view({2, 2});
  const LossSum sum = loss(output, target);
  const double expected = -(std::log(std::exp(2) / (std::exp(1) + std::exp(2) + std::exp(0.5))) +
                            std::log(1.0 / 3) + std::log(std::exp(1) / (2 + std::exp(1))));
  EXPECT_NEAR(sum.sum.item<double>(), expected, 1e-12);
  EXPECT_EQ(sum.weight, 3);
  sum.sum.backward();
  EXPECT_EQ(output.grad()[0][1].count_nonzero().item<int>(), 0) << "padding has no gradient";

  const EvaluationSums sums = loss.evaluate(output, target);
  EXPECT_EQ(sums.samples, 2);
  EXPECT_EQ(sums.weight, 3);
  EXPECT_NEAR(sums.mean_loss(), expected / 3, 1e-12);
  EXPECT_DOUBLE_EQ(sums.accuracy(), 2.0 / 3);
  EXPECT_THROW(loss(output.flatten(0, 1), target), UsageError);
}

TEST(Loss, TakesTargetsAndOutputsWithOrWithoutAColumn) {
  const Loss loss = make_loss(Target::numbers(1));
  const at::Tensor output = numbers({1, 2, 3}, {3, 1});
  const at::Tensor target = numbers({1, 2, 5}, {3});
  for (const at::Tensor& o : {output, output.flatten()}) {
    for (const at::Tensor& t : {target, target.unsqueeze(1), target.to(at::kFloat)}) {
      EXPECT_DOUBLE_EQ(mean_of(loss(o, t)), 4.0 / 3);
    }
  }
}

TEST(Loss, RefusesOutputsOfAnotherWidth) {
  try {
    make_loss(Target::one_of(3))(at::zeros({4, 2}), classes({0, 0, 0, 0}));
    FAIL();
  } catch (const UsageError& error) {
    EXPECT_STREQ(error.what(), "the model must give [batch, 3], got [4, 2]");
  }
}

TEST(Loss, RefusesNamesThatDoNotSuitTheTarget) {
  EXPECT_THROW(make_loss(Target::one_of(3), "mse"), UsageError);
  EXPECT_THROW(make_loss(Target::one_of(3), "bce_with_logits"), UsageError);
  EXPECT_THROW(make_loss(Target::numbers(1), "cross_entropy"), UsageError);
  EXPECT_THROW(make_loss(Target::numbers(1), "hinge"), UsageError);
  EXPECT_EQ(make_loss(Target::one_of(2), "cross_entropy").outputs(), 2);
}

TEST(Evaluation, OfPartsAddsUpToTheWhole) {
  at::manual_seed(3);
  const at::Tensor output = at::randn({50, 2}), target = at::randn({50, 2}) + output;
  const Loss loss = make_loss(Target::numbers(2));
  EvaluationSums parts;
  for (const auto& [first, last] : {std::pair{0, 1}, {1, 30}, {30, 50}}) {
    const EvaluationSums part =
        loss.evaluate(output.slice(0, first, last), target.slice(0, first, last));
    parts += EvaluationSums::of(part.flat());
  }
  EXPECT_EQ(parts.samples, 50);
  EXPECT_NEAR(parts.mean_loss(), mean_of(loss(output, target)), 1e-6);

  const at::Tensor y = target.to(at::kDouble);
  const double residual = (output.to(at::kDouble) - y).square().sum().item<double>();
  const double total = (y - y.mean()).square().sum().item<double>();
  EXPECT_NEAR(parts.r2(), 1 - residual / total, 1e-12);
}

TEST(Evaluation, R2IsOneForPerfectAndZeroForTheMean) {
  const Loss loss = make_loss(Target::numbers(1));
  const at::Tensor y = numbers({1, 2, 3, 6}, {4});
  EXPECT_DOUBLE_EQ(loss.evaluate(y, y).r2(), 1);
  EXPECT_DOUBLE_EQ(loss.evaluate(at::full_like(y, 3), y).r2(), 0);
  EXPECT_DOUBLE_EQ(loss.evaluate(at::full_like(y, 3), y, /*shift=*/100).r2(), 0);
}

TEST(Evaluation, HasNoR2WhereAllTargetsAreEqual) {
  const at::Tensor y = at::full({7, 1}, 0.1, at::kDouble);
  const Loss loss = make_loss(Target::numbers(1));
  EXPECT_TRUE(std::isnan(loss.evaluate(y + 1, y, /*shift=*/0.1).r2()));
}

TEST(Evaluation, HasAnExactR2FarFromZero) {
  const at::Tensor y = at::arange(5, at::kDouble).reshape({5, 1}) + 1e12;
  const Loss loss = make_loss(Target::numbers(1));
  EXPECT_DOUBLE_EQ(loss.evaluate(at::full_like(y, 1e12 + 2), y, /*shift=*/1e12).r2(), 0);
}

TEST(Evaluation, AccuracyCountsTheNamedClass) {
  const at::Tensor output = numbers({1, 2, 0, 5, 1, 0, 0, 0, 9, 3, 2, 1}, {4, 3});
  const EvaluationSums sums = make_loss(Target::one_of(3)).evaluate(output, classes({1, 0, 0, 0}));
  EXPECT_DOUBLE_EQ(sums.accuracy(), 0.75);
  EXPECT_NEAR(sums.mean_loss(),
              mean_of(make_loss(Target::one_of(3))(output, classes({1, 0, 0, 0}))), 1e-12);

  const at::Tensor odds = numbers({0.1, -3, 2, -0.2}, {4, 1});
  EXPECT_DOUBLE_EQ(make_loss(Target::one_of(2)).evaluate(odds, classes({1, 0, 0, 1})).accuracy(),
                   0.5);
}

TEST(Loss, RefusesTargetsThatDoNotBelongToTheOutputs) {
  const auto error = [](const Loss& loss, const at::Tensor& output, const at::Tensor& target) {
    const std::string trained = error_of<UsageError>([&] { loss(output, target); });
    EXPECT_EQ(error_of<UsageError>([&] { loss.evaluate(output, target); }), trained);
    return trained;
  };
  const Loss mse = make_loss(Target::numbers(1));
  // libtorch would repeat the one target for all outputs.
  EXPECT_EQ(error(mse, at::zeros({4, 1}), at::zeros({1, 1})),
            "the loss needs targets of [4, 1], got Float [1, 1]");
  EXPECT_EQ(error(mse, at::zeros({4, 1}), at::zeros({})),
            "the loss needs targets of [4, 1], got Float []");
  EXPECT_EQ(error(make_loss(Target::numbers(2)), at::zeros({4, 2}), at::zeros({4})),
            "the loss needs targets of [4, 2], got Float [4]");
  const Loss entropy = make_loss(Target::one_of(3));
  EXPECT_EQ(error(entropy, at::zeros({2, 3}), classes({0, 1, 2})),
            "the loss needs targets of 2 classes as i64, got Long [3]");
  EXPECT_EQ(error(entropy, at::zeros({2, 3}), at::zeros({2})),
            "the loss needs targets of 2 classes as i64, got Float [2]");
  EXPECT_EQ(error(entropy, at::zeros({2, 3}), classes({0, 9})),
            "loss cross_entropy: a class must lie in [0, 3), got classes from 0 to 9");
  EXPECT_EQ(error(entropy, at::zeros({2, 3}), classes({-1, 2})),
            "loss cross_entropy: a class must lie in [0, 3), got classes from -1 to 2");
}

}  // namespace
}  // namespace trireme
