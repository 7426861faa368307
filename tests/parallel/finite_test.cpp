// A step in which not all is finite is found on every rank, and changes nothing.

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/nn/modules/linear.h>
#include <torch/optim/sgd.h>

#include <cmath>
#include <limits>

#include "tests/comm/ranks.h"
#include "tests/parallel/named_strategies.h"
#include "trireme/base/error.h"
#include "trireme/kernels/norm.h"
#include "trireme/optim/sgd.h"
#include "trireme/parallel/replicated.h"

namespace trireme {
namespace {

using testing::HasSubstr;
using testing::ThrowsMessage;

constexpr int kVirtualWorkers = 6;
constexpr float kInfinity = std::numeric_limits<float>::infinity();

// The gradient of its parameter is what the forward pass is given; so is what it adds to a buffer.
struct Echo : torch::nn::Module {
  explicit Echo(at::ScalarType dtype = at::kFloat) {
    weight = register_parameter("weight", at::zeros({3}, dtype));
    sum = register_buffer("sum", at::zeros({2}, dtype));
  }

  at::Tensor forward(double gradient, double change = 0) {
    const at::NoGradGuard no_grad;
    sum.select(0, 1).add_(change);
    const at::AutoGradMode with_grad(true);
    // Only the last element has it.
    return (weight * at::tensor({1.0, 1.0, gradient}, weight.options())).sum();
  }

  at::Tensor weight, sum;
};

class FiniteSteps : public testing::TestWithParam<std::tuple<std::string, int>> {
 protected:
  struct Loop {
    Loop(Communicator& communicator, StrategyOptions options, at::ScalarType dtype)
        : world(communicator),
          model(dtype),
          strategy(test::strategy_named(std::get<0>(GetParam()), world, std::move(options))),
          sgd(strategy->attach(model), {.lr = 0.25, .momentum = 0.5}) {}

    // The virtual worker `bad` has another gradient or change than the others.
    GradientReport reduce(double gradient, int bad = -1, double bad_gradient = 0,
                          double bad_change = 0, double loss_scale = 1) {
      strategy->begin({.loss_scale = loss_scale});
      const Range mine = strategy->virtual_workers();
      for (std::int64_t w = mine.begin; w < mine.end; ++w) {
        strategy->backward(w == bad ? model.forward(bad_gradient, bad_change)
                                    : model.forward(gradient, 1));
      }
      return strategy->reduce_gradients();
    }

    Communicator& world;
    Echo model;
    std::unique_ptr<Strategy> strategy;
    Sgd sgd;
  };

  static void on_ranks(const std::function<void(Loop&)>& body, StrategyOptions options = {},
                       at::ScalarType dtype = at::kFloat) {
    options.virtual_workers = kVirtualWorkers;
    test::run_ranks(std::get<1>(GetParam()), [&](Communicator& world) {
      Loop loop(world, options, dtype);
      body(loop);
      world.barrier();  // host_shared: the parameters lie in the memory of rank 0
    });
  }
};

TEST_P(FiniteSteps, AreToldFromOthersOnEveryRank) {
  for (const double bad : {double{kInfinity}, -double{kInfinity}, std::nan("")}) {
    on_ranks([&](Loop& loop) {
      EXPECT_TRUE(loop.reduce(1).is_finite);
      loop.strategy->update(loop.sgd);
      const at::Tensor before = loop.model.weight.detach().clone();
      const GradientReport report = loop.reduce(1, 4, bad);
      EXPECT_FALSE(report.is_finite);
      const Range mine = loop.strategy->virtual_workers();
      EXPECT_EQ(report.bad_micro_batch, 4 < mine.begin || 4 >= mine.end ? -1 : 4 - mine.begin);
      EXPECT_THAT([&] { loop.strategy->update(loop.sgd); },
                  ThrowsMessage<DivergedError>(HasSubstr("skip_update()")));
      EXPECT_TRUE(loop.model.weight.equal(before));
      loop.strategy->abandon_step();
    });
  }
}

TEST_P(FiniteSteps, AreJudgedByTheirSums) {
  constexpr double kLargest = std::numeric_limits<float>::max();
  // Six times a seventh fit, six times a fifth do not; half of the type is no limit by itself.
  for (const auto& [gradient, is_finite] :
       {std::pair{kLargest / 7, true}, {kLargest / 5, false}, {kLargest / 13, true}}) {
    on_ranks([&, gradient = gradient, is_finite = is_finite](Loop& loop) {
      const GradientReport report = loop.reduce(gradient);
      EXPECT_EQ(report.is_finite, is_finite) << gradient;
      EXPECT_EQ(report.bad_micro_batch, -1);
      loop.strategy->skip_update(loop.sgd);
    });
    on_ranks(
        [&, gradient = gradient](Loop& loop) {
          EXPECT_TRUE(loop.reduce(gradient).is_finite) << "f64 holds them all";
          loop.strategy->skip_update(loop.sgd);
        },
        {}, at::kDouble);
  }
}

// Powers of two: what is divided by them again is as before, unless it has overflowed.
TEST_P(FiniteSteps, HaveTheSameBitsWithAnyLossScale) {
  constexpr double kScale = 65536;
  std::vector<at::Tensor> weights;
  for (const double scale : {1.0, kScale, 1 / kScale}) {
    on_ranks([&](Loop& loop) {
      for (int step = 0; step < 3; ++step) {
        const GradientReport report = loop.reduce(0.1 * step, 2, 0.7, 1, scale);
        EXPECT_TRUE(report.is_finite);
        EXPECT_EQ(loop.strategy->gradient_norm() > 0, true);
        loop.strategy->update(loop.sgd);
      }
      EXPECT_EQ(loop.reduce(1e36, -1, 0, 0, scale).is_finite, scale <= 1);
      loop.strategy->skip_update(loop.sgd);
      if (loop.world.rank() == 0) weights.push_back(loop.model.weight.detach().clone());
    });
  }
  EXPECT_TRUE(weights.at(1).equal(weights.at(0)));
  EXPECT_TRUE(weights.at(2).equal(weights.at(0)));
}

// What remains after a skipped step is what a run has that never made it.
TEST_P(FiniteSteps, GoOnAfterASkippedOneAsIfItHadNotBeen) {
  std::vector<at::Tensor> weights, sums;
  for (const bool with_bad_steps : {false, true}) {
    on_ranks([&](Loop& loop) {
      for (int step = 0; step < 4; ++step) {
        if (with_bad_steps && step % 2 == 1) {
          EXPECT_FALSE(loop.reduce(1, 1, kInfinity).is_finite);
          loop.strategy->skip_update(loop.sgd);
          EXPECT_FALSE(loop.reduce(1, 5, 1, std::nan("")).is_finite);
          loop.strategy->skip_update(loop.sgd);
        }
        EXPECT_TRUE(loop.reduce(step).is_finite);
        loop.strategy->update(loop.sgd);
      }
      if (loop.world.rank() > 0) return;
      weights.push_back(loop.model.weight.detach().clone());
      sums.push_back(loop.model.sum.clone());
    });
  }
  EXPECT_TRUE(weights[0].equal(weights[1])) << weights[0] << weights[1];
  EXPECT_TRUE(sums[0].equal(sums[1])) << sums[0] << sums[1];
  EXPECT_EQ(sums[0][1].item<float>(), 4);
  EXPECT_NE(weights[0][2].item<float>(), 0);
}

TEST_P(FiniteSteps, AreNotThoseThatRuinABuffer) {
  on_ranks([](Loop& loop) {
    const GradientReport report = loop.reduce(1, 2, 1, kInfinity);
    EXPECT_FALSE(report.is_finite);
    EXPECT_EQ(report.bad_buffer, "sum");
    EXPECT_THAT([&] { loop.strategy->update(loop.sgd); },
                ThrowsMessage<DivergedError>(HasSubstr("buffer sum")));
    EXPECT_EQ(loop.model.sum[1].item<float>(), 0);
    loop.strategy->skip_update(loop.sgd);
    EXPECT_EQ(loop.model.sum[1].item<float>(), 0);
    EXPECT_TRUE(loop.reduce(1).is_finite);
    loop.strategy->update(loop.sgd);
    EXPECT_FLOAT_EQ(loop.model.sum[1].item<float>(), 1);
  });
}

INSTANTIATE_TEST_SUITE_P(Ranks, FiniteSteps,
                         testing::Combine(test::kStrategyNames, testing::Values(1, 2, 3, 4)),
                         test::strategy_on_ranks);

// Residuals and factors are what they were, whatever each rank had already sent.
TEST(FiniteSteps, RestoreWhatCompressionRemembersIfSkipped) {
  for (const char* codec : {"sign", "int8", "top_k", "power_sgd", "f16"}) {
    test::run_ranks(3, [&](Communicator& world) {
      torch::nn::Linear model(40, 30);
      const auto strategy = replicated(world, {.compression = {.codec = codec}});
      Sgd sgd(strategy->attach(*model), {.lr = 0.1});
      const auto bytes_of_state = [&] {
        std::string bytes;
        for (const Strategy::State& state : strategy->state()) {
          bytes.append(static_cast<const char*>(state.values.data), state.values.bytes());
        }
        return bytes;
      };
      std::string before;
      for (const bool bad : {false, true, false}) {
        before = bytes_of_state();
        strategy->begin();
        at::Tensor x = at::ones({2, 40}).mul_(1 + world.rank());
        if (bad && world.rank() == 1) x[1][3] = std::nan("");
        strategy->backward(model->forward(x).square().sum());
        EXPECT_EQ(strategy->reduce_gradients().is_finite, !bad) << codec;
        bad ? strategy->skip_update(sgd) : strategy->update(sgd);
        EXPECT_EQ(bytes_of_state() == before, bad) << codec;
      }
    });
  }
}

TEST(FiniteSteps, AreHeldToTheTypeThatACodecSends) {
  test::run_ranks(2, [](Communicator& world) {
    Echo model;
    const auto strategy = replicated(world, {.compression = {.codec = "f16"}});
    Sgd sgd(strategy->attach(model), {.lr = 0.1});
    for (const double gradient : {1e4, 1e6}) {
      strategy->begin();
      strategy->backward(model.forward(gradient));
      EXPECT_EQ(strategy->reduce_gradients().is_finite, gradient < 65504);
      strategy->skip_update(sgd);
    }
  });
}

TEST(FiniteSteps, AreHeldToWithOptimizersOfLibtorch) {
  test::run_ranks(2, [](Communicator& world) {
    Echo model;
    const auto strategy = replicated(world);
    strategy->attach(model);
    torch::optim::SGD sgd(model.parameters(), 0.1);
    strategy->begin();
    strategy->backward(model.forward(world.rank() == 1 ? double{kInfinity} : 1));
    strategy->reduce_gradients();
    EXPECT_THROW(strategy->update(sgd), DivergedError);
    strategy->skip_update(sgd);
    EXPECT_TRUE(model.weight.equal(at::zeros({3})));
  });
}

}  // namespace
}  // namespace trireme
