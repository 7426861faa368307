// A model that is changed behind its strategy's back: loading and freezing work, the rest is
// refused.

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/nn/modules/batchnorm.h>
#include <torch/nn/modules/container/sequential.h>
#include <torch/nn/modules/linear.h>
#include <torch/serialize.h>

#include <sstream>

#include "tests/comm/ranks.h"
#include "tests/parallel/named_strategies.h"
#include "trireme/base/error.h"
#include "trireme/optim/sgd.h"

namespace trireme {
namespace {

using testing::HasSubstr;
using testing::ThrowsMessage;

class ChangedModel : public testing::TestWithParam<std::tuple<std::string, int>> {
 protected:
  struct Loop {
    explicit Loop(Communicator& communicator) : world(communicator) {
      const at::NoGradGuard no_grad;
      for (at::Tensor& p : model->parameters()) p.fill_(1);
    }

    void attach() {
      strategy = test::strategy_named(std::get<0>(GetParam()), world);
      sgd.emplace(strategy->attach(*model), SgdOptions{.lr = 0.5});
    }

    // The gradient of the second layer's bias is 1, of its weight the hidden units.
    void step() {
      strategy->begin();
      strategy->backward(model->forward(at::ones({1, 2})).sum());
      strategy->reduce_gradients();
      strategy->update(*sgd);
    }

    at::Tensor& weight() { return first->weight; }
    at::Tensor& bias() { return second->bias; }

    Communicator& world;
    torch::nn::Linear first{2, 3}, second{3, 1};
    torch::nn::Sequential model{first, second};
    std::unique_ptr<Strategy> strategy;
    std::optional<Sgd> sgd;
  };

  // Parameters of servers and of groups that train apart cannot be replaced in the middle.
  static bool takes_new_values() {
    const std::string& name = std::get<0>(GetParam());
    return name == "replicated" || name == "host_shared" || name.starts_with("sharded");
  }

  static void on_ranks(const std::function<void(Loop&)>& body) {
    test::run_ranks(std::get<1>(GetParam()), [&](Communicator& world) {
      Loop loop(world);
      body(loop);
      world.barrier();
    });
  }
};

// The archive of a model whose bias is 7.
std::string archive_with_bias(float value) {
  torch::nn::Linear first(2, 3), second(3, 1);
  torch::nn::Sequential model(first, second);
  const at::NoGradGuard no_grad;
  for (at::Tensor& p : model->parameters()) p.fill_(1);
  second->bias.fill_(value);
  std::ostringstream out;
  torch::save(model, out);
  return out.str();
}

TEST_P(ChangedModel, MayBeLoadedBetweenSteps) {
  const std::string archive = archive_with_bias(7);
  on_ranks([&](Loop& loop) {
    loop.attach();
    loop.step();
    EXPECT_EQ(loop.bias().item<float>(), 0.5);
    loop.world.barrier();  // with host_shared the next step brings what is loaded to all
    std::istringstream in(archive);
    torch::load(loop.model, in);
    if (!takes_new_values()) {
      EXPECT_THAT([&] { loop.step(); }, ThrowsMessage<UsageError>(HasSubstr("changed")));
      return;
    }
    loop.step();
    EXPECT_EQ(loop.bias().item<float>(), 6.5);
    loop.step();
    EXPECT_EQ(loop.bias().item<float>(), 6);
    EXPECT_EQ(loop.weight()[0][0].item<float>(), loop.weight()[2][1].item<float>());
  });
}

TEST_P(ChangedModel, MayBeChangedInPlace) {
  if (!takes_new_values()) return;
  on_ranks([](Loop& loop) {
    loop.attach();
    loop.step();
    loop.world.barrier();
    {
      const at::NoGradGuard no_grad;
      loop.bias().fill_(3);
    }
    loop.step();
    EXPECT_EQ(loop.bias().item<float>(), 2.5);
  });
}

TEST_P(ChangedModel, OnOneRankIsAnErrorOnAll) {
  const auto [name, ranks] = GetParam();
  if (ranks == 1 || name != "replicated") return;
  for (const bool load : {true, false}) {
    on_ranks([&](Loop& loop) {
      loop.attach();
      loop.step();
      if (loop.world.rank() == loop.world.size() - 1) {
        const at::NoGradGuard no_grad;
        load ? loop.bias().set_data(at::full({1}, 9.0)) : (void)loop.bias().add_(1);
      }
      EXPECT_THAT([&] { loop.step(); },
                  ThrowsMessage<UsageError>(HasSubstr("not the same on all ranks")));
    });
  }
}

TEST_P(ChangedModel, WithAForwardPassInTrainingModeOutsideOfAStepIsAnError) {
  const auto [name, ranks] = GetParam();
  if (ranks == 1) return;
  on_ranks([](Loop& loop) {
    torch::nn::BatchNorm1d norm(2);
    loop.model = torch::nn::Sequential(norm, loop.first, loop.second);
    loop.attach();
    const at::Tensor x = at::ones({4, 2});
    const auto step = [&] {
      loop.strategy->begin();
      loop.strategy->backward(loop.model->forward(x).sum());
      loop.strategy->reduce_gradients();
      loop.strategy->update(*loop.sgd);
    };
    step();
    loop.model->eval();
    loop.model->forward(x);
    loop.model->train();
    step();
    if (loop.world.rank() == 0) loop.model->forward(x * 3);
    EXPECT_THAT(step, ThrowsMessage<UsageError>(HasSubstr("model.eval()")));
  });
}

TEST_P(ChangedModel, MayBeFrozenAndUnfrozen) {
  on_ranks([](Loop& loop) {
    loop.attach();
    for (int round = 0; round < 2; ++round) {
      loop.bias().requires_grad_(false);
      const float bias = loop.bias().item<float>();
      const float weight = loop.weight()[0][0].item<float>();
      loop.step();
      EXPECT_EQ(loop.bias().item<float>(), bias);
      EXPECT_NE(loop.weight()[0][0].item<float>(), weight);
      loop.bias().requires_grad_(true);
      loop.step();
      EXPECT_EQ(loop.bias().item<float>(), bias - 0.5);
    }
  });
}

TEST_P(ChangedModel, ThatWasFrozenInAttachCannotBeUnfrozen) {
  on_ranks([](Loop& loop) {
    loop.bias().requires_grad_(false);
    loop.attach();
    loop.step();
    loop.bias().requires_grad_(true);
    EXPECT_THAT([&] { loop.step(); },
                ThrowsMessage<UsageError>(HasSubstr("1.bias requires a gradient now")));
    loop.bias().requires_grad_(false);
    loop.step();
  });
}

TEST_P(ChangedModel, OfAnotherTypeOrShapeIsRefused) {
  on_ranks([](Loop& loop) {
    loop.attach();
    loop.step();
    loop.bias().set_data(at::ones({2}));
    EXPECT_THAT([&] { loop.step(); }, ThrowsMessage<UsageError>(HasSubstr("1.bias must stay")));
  });
}

TEST_P(ChangedModel, HasOneStrategyAtATime) {
  on_ranks([](Loop& loop) {
    loop.attach();
    loop.step();
    const auto second = test::strategy_named(std::get<0>(GetParam()), loop.world);
    EXPECT_THAT([&] { second->attach(*loop.model); },
                ThrowsMessage<UsageError>(HasSubstr("belongs to another strategy")));
  });
}

TEST_P(ChangedModel, OutlivesItsStrategyAndTakesAnother) {
  on_ranks([](Loop& loop) {
    loop.attach();
    loop.step();
    loop.world.barrier();
    loop.sgd.reset();
    loop.strategy.reset();
    loop.world.barrier();
    EXPECT_EQ(loop.bias().item<float>(), 0.5);
    EXPECT_FALSE(loop.bias().grad().defined());
    loop.attach();
    loop.step();
    EXPECT_EQ(loop.bias().item<float>(), 0);
  });
}

INSTANTIATE_TEST_SUITE_P(Ranks, ChangedModel,
                         testing::Combine(test::kStrategyNames, testing::Values(1, 2, 3)),
                         test::strategy_on_ranks);

}  // namespace
}  // namespace trireme
