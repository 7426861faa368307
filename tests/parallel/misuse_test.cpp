#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/nn/modules/linear.h>
#include <torch/optim/adam.h>
#include <torch/optim/sgd.h>

#include <functional>

#include "tests/comm/ranks.h"
#include "tests/parallel/named_strategies.h"
#include "trireme/base/error.h"
#include "trireme/optim/sgd.h"
#include "trireme/parallel/relaxed_consistency.h"

namespace trireme {
namespace {

using testing::HasSubstr;

void expect_error(const std::function<void()>& call, const std::string& advice) {
  try {
    call();
    ADD_FAILURE() << "no error, but wanted: " << advice;
  } catch (const UsageError& error) {
    EXPECT_THAT(error.what(), HasSubstr(advice));
  }
}

// A strategy that is used wrongly throws, on every rank, an error that names the right call.
class Misuse : public testing::TestWithParam<std::tuple<std::string, int>> {
 protected:
  struct Loop {
    Loop(const std::string& name, Communicator& world)
        : strategy(test::strategy_named(name, world)), sgd(strategy->attach(*model), {.lr = 0.1}) {}

    at::Tensor loss() { return model->forward(at::ones({1, 2})).sum(); }
    void step() {
      strategy->begin();
      strategy->backward(loss());
      strategy->reduce_gradients();
      strategy->update(sgd);
    }

    torch::nn::Linear model{2, 1};
    std::unique_ptr<Strategy> strategy;
    Sgd sgd;
  };

  static std::string name() { return std::get<0>(GetParam()); }

  // The loop has made one step before `body`, because a strategy is used for more than one.
  static void on_ranks(const std::function<void(Loop&)>& body) {
    test::run_ranks(std::get<1>(GetParam()), [&](Communicator& world) {
      Loop loop(name(), world);
      loop.step();
      body(loop);
      world.barrier();  // host_shared: the parameters lie in the memory of rank 0
    });
  }
};

TEST_P(Misuse, OfBackwardOnTheLossSaysToCallTheStrategys) {
  on_ranks([](Loop& loop) {
    loop.strategy->begin();
    expect_error([&] { loop.loss().backward(); }, "strategy->backward(loss) in place of");
    loop.strategy->abandon_step();
    expect_error([&] { loop.loss().backward(); }, "call begin() before the first forward");
    loop.step();
  });
}

TEST_P(Misuse, OfStepOnTheOptimizerIsNoticedAtTheNextBegin) {
  on_ranks([](Loop& loop) {
    loop.strategy->begin();
    loop.strategy->backward(loop.loss());
    loop.strategy->reduce_gradients();
    expect_error([&] { loop.strategy->begin(); },
                 "strategy->update(optimizer) in place of optimizer.step()");
  });
}

TEST_P(Misuse, OfCallsOutOfOrderIsRefused) {
  on_ranks([](Loop& loop) {
    Strategy& strategy = *loop.strategy;
    expect_error([&] { strategy.backward(loop.loss()); }, "backward() was called before begin()");
    expect_error([&] { strategy.reduce_gradients(); }, "called before begin()");
    expect_error([&] { strategy.update(loop.sgd); }, "call reduce_gradients() before it");
    expect_error([&] { strategy.gradient_norm(); }, "call reduce_gradients() before it");
    strategy.begin();
    expect_error([&] { strategy.begin(); }, "begin() was called twice");
    expect_error([&] { strategy.update(loop.sgd); },
                 "update() was called before reduce_gradients()");
    strategy.backward(loop.loss());
    expect_error([&] { strategy.backward(loop.loss()); },
                 "more often than begin() announced: 1 pass");
    strategy.reduce_gradients();
    expect_error([&] { strategy.reduce_gradients(); }, "called after reduce_gradients()");
    expect_error([&] { strategy.backward(loop.loss()); }, "called after reduce_gradients()");
    strategy.update(loop.sgd);
    loop.step();
  });
}

TEST_P(Misuse, OfAStrategyThatIsNotAttachedIsRefused) {
  test::run_ranks(std::get<1>(GetParam()), [](Communicator& world) {
    torch::nn::Linear model(2, 1);
    const auto strategy = test::strategy_named(name(), world);
    Sgd sgd(std::span<Shard>{});
    expect_error([&] { strategy->begin(); }, "before attach(); call attach(model) once");
    expect_error(
        [&] {
          strategy->backward(model->forward(at::ones({1, 2})).sum());
        },
        "before attach()");
    expect_error([&] { strategy->reduce_gradients(); }, "before attach()");
    expect_error([&] { strategy->update(sgd); }, "before attach()");
    expect_error([&] { strategy->skip_update(sgd); }, "before attach()");
    expect_error([&] { strategy->gradient_norm(); }, "before attach()");
    expect_error([&] { strategy->state(); },
                 "state() was called before attach(); call attach(model) once");
    strategy->abandon_step();  // does nothing
    EXPECT_EQ(strategy->virtual_workers(), (Range{world.rank(), world.rank() + 1}));
    if (RelaxedConsistency* const relaxed = strategy->relaxed()) {
      expect_error([&] { relaxed->synchronize(); }, "synchronize() was called before attach()");
      expect_error([&] { relaxed->step_ranks(); }, "step_ranks() was called before attach()");
      EXPECT_EQ(relaxed->traffic().sent, 0);
    }
    strategy->attach(*model);
    expect_error([&] { strategy->attach(*model); }, "attach() was called twice");
    strategy->state();
    world.barrier();  // host_shared: the parameters lie in the memory of rank 0
  });
}

TEST_P(Misuse, OfStepShapesIsRefused) {
  on_ranks([](Loop& loop) {
    expect_error([&] { loop.strategy->begin({.passes = 2}); }, "announces 2 passes, more than");
    expect_error([&] { loop.strategy->begin({.passes = -2}); }, "announces -2 passes");
    expect_error([&] { loop.strategy->begin({.weight = -1}); }, "must be a number above 0");
    loop.step();
  });
}

TEST_P(Misuse, OfALossWithoutGradientIsRefused) {
  on_ranks([](Loop& loop) {
    loop.strategy->begin();
    expect_error([&] { loop.strategy->backward(loop.loss().detach()); }, "without a gradient");
    expect_error(
        [&] {
          loop.strategy->backward(loop.model->forward(at::ones({3, 2})));
        },
        "a scalar loss that depends on the parameters, got 3 elements");
    expect_error([&] { loop.strategy->backward(at::Tensor()); }, "got an undefined tensor");
    expect_error([&] { loop.strategy->backward(loop.loss().to(at::kComplexFloat)); },
                 "real and on the CPU, got ComplexFloat on cpu");
    loop.strategy->abandon_step();
    loop.step();
  });
}

TEST_P(Misuse, OfAnOptimizerOfLibtorchIsRefusedWhereGradIsNotSet) {
  on_ranks([](Loop& loop) {
    torch::optim::SGD sgd(loop.model->parameters(), 0.1);
    loop.strategy->begin();
    loop.strategy->backward(loop.loss());
    loop.strategy->reduce_gradients();
    if (name() == "replicated" || name() == "local_steps") {
      loop.strategy->update(sgd);
    } else {
      expect_error([&] { loop.strategy->update(sgd); }, "make one of trireme's optimizers");
    }
  });
}

TEST_P(Misuse, OfStepOnAnOptimizerOfLibtorchBeforeUpdateIsRefused) {
  if (name() != "replicated" && name() != "local_steps") return;  // they alone set grad()
  on_ranks([](Loop& loop) {
    torch::optim::Adam adam(loop.model->parameters(), 0.1);
    loop.strategy->begin();
    loop.strategy->backward(loop.loss());
    loop.strategy->reduce_gradients();
    adam.step();
    expect_error([&] { loop.strategy->update(adam); }, "leave out optimizer.step()");
    loop.strategy->abandon_step();
    loop.step();
  });
}

TEST_P(Misuse, OfTheGradientSinkIsRefused) {
  on_ranks([](Loop& loop) {
    GradientSink& sink = loop.strategy->begin();
    const at::Tensor gradient = at::ones({1, 2});
    expect_error([&] { sink.add(0, 1, gradient); }, "there is no micro-batch 1");
    expect_error([&] { sink.add(2, 0, gradient); }, "there is no parameter 2 in a model of 2");
    expect_error(
        [&] {
          sink.add(0, 0, at::ones({2, 2}));
        },
        "must be Float [1, 2], got Float [2, 2]");
    expect_error([&] { sink.add(0, 0, gradient.to(at::kDouble)); }, "got Double [1, 2]");
    expect_error([&] { sink.add(0, 0, at::Tensor()); }, "got an undefined one");
    expect_error([&] { sink.add(0, 0, gradient.to_sparse()); }, "has a gradient of layout Sparse");
    sink.add(0, 0, gradient);
    expect_error([&] { sink.add(0, 0, gradient); }, "came after one for micro-batch 0");
    expect_error([&] { loop.strategy->reduce_gradients(); }, "micro-batch 0 was finished");
    sink.finish(0, 1);
    expect_error([&] { sink.finish(0, 1); }, "micro-batch 0 is finished");
    expect_error([&] { sink.add(1, 0, at::ones({1})); }, "micro-batch 0 is finished");
    expect_error([&] { sink.set_micro_batch(0); }, "micro-batch 0 is finished");
    loop.strategy->reduce_gradients();
    expect_error([&] { sink.add(0, 0, gradient); }, "after reduce_gradients()");
    loop.strategy->update(loop.sgd);
  });
}

TEST_P(Misuse, OfWeightsThatDifferBetweenRanksIsAnErrorOnEveryRank) {
  if (std::get<1>(GetParam()) == 1) return;
  test::run_ranks(std::get<1>(GetParam()), [](Communicator& world) {
    Loop loop(name(), world);
    loop.strategy->begin({.weight = world.rank() == 0 ? 7.0 : 8.0});
    loop.strategy->backward(loop.loss());
    if (name() == "replicated" || name() == "local_steps" || name().starts_with("sharded")) {
      // The divisors of the sums differ, after which the communicator is over.
      return expect_error([&] { loop.strategy->reduce_gradients(); },
                          "sum / 8) in backward() at misuse_test.cpp:");
    }
    expect_error([&] { loop.strategy->reduce_gradients(); }, "same weight on every rank");
    expect_error([&] { loop.strategy->begin(); },
                 "after reduce_gradients() has failed; call abandon_step() on every rank");
    expect_error([&] { loop.strategy->update(loop.sgd); }, "call abandon_step() on every rank");
    loop.strategy->abandon_step();
    const at::Tensor before = loop.model->weight.detach().clone();
    loop.step();
    EXPECT_TRUE(loop.model->weight.allclose(before - 0.1));

    loop.strategy->begin({.weight = world.rank() == 0 ? 7.0 : 8.0});
    loop.strategy->backward(loop.loss());
    loop.strategy->abandon_step();  // before the weights are compared
    loop.step();
    EXPECT_TRUE(loop.model->weight.allclose(before - 0.2));
    world.barrier();  // host_shared: the parameters lie in the memory of rank 0
  });
}

// What one rank has changed is refused until it is undone, also after the step was abandoned.
TEST_P(Misuse, OfParametersThatDifferIsNotForgottenWithTheStep) {
  if (std::get<1>(GetParam()) == 1 || (name() != "replicated" && name() != "host_shared")) return;
  test::run_ranks(std::get<1>(GetParam()), [](Communicator& world) {
    Loop loop(name(), world);
    loop.step();
    {
      const at::NoGradGuard no_grad;
      if (world.rank() == 1) loop.model->weight.add_(1);
    }
    for (int attempt = 0; attempt < 2; ++attempt) {
      loop.strategy->begin();
      loop.strategy->backward(loop.loss());
      expect_error([&] { loop.strategy->reduce_gradients(); }, "not the same on all ranks");
      loop.strategy->abandon_step();
    }
    world.barrier();  // host_shared: the parameters lie in the memory of rank 0
  });
}

// An exception in the middle of a backward pass leaves the gradients of some parameters behind.
TEST_P(Misuse, OfABackwardPassThatThrowsIsOverWithTheStep) {
  on_ranks([](Loop& loop) {
    const at::Tensor before = loop.model->weight.detach().clone();
    loop.strategy->begin();
    const at::Tensor loss = loop.loss();
    loop.model->weight.register_hook(
        [](const at::Tensor&) -> at::Tensor { throw UsageError("of the user's own"); });
    expect_error([&] { loop.strategy->backward(loss); }, "of the user's own");
    loop.strategy->abandon_step();
    EXPECT_TRUE(loop.model->weight.equal(before));
    expect_error([&] { loop.strategy->reduce_gradients(); }, "called before begin()");
    loop.strategy->begin();
    expect_error([&] { loop.strategy->backward(loop.loss()); }, "of the user's own");
    loop.strategy->abandon_step();
  });
}

TEST_P(Misuse, OfAnOptimizerOfAnotherModelIsRefused) {
  on_ranks([](Loop& loop) {
    float values = 0, gradient = 1;
    Shard other{.name = "other",
                .region = Region({1}),
                .values = {&values, 1, DType::kF32},
                .gradient = {&gradient}};
    Sgd of_another_model(std::span(&other, 1), {.lr = 0.1});
    Sgd of_nothing(std::span<Shard>{}, {.lr = 0.1});
    loop.strategy->begin();
    loop.strategy->backward(loop.loss());
    loop.strategy->reduce_gradients();
    expect_error([&] { loop.strategy->update(of_another_model); },
                 "not made from the shards which attach() of this strategy returns");
    if (!loop.sgd.shards().empty()) {
      expect_error([&] { loop.strategy->update(of_nothing); }, "make the optimizer from those");
    }
    EXPECT_EQ(values, 0);
    loop.strategy->update(loop.sgd);
  });
}

// Calls of different functions of the strategies are named by the user's lines.
TEST_P(Misuse, OfDifferentCallsOnTheRanksNamesTheUsersLines) {
  if (std::get<1>(GetParam()) == 1 || name() != "replicated") return;
  test::run_ranks(std::get<1>(GetParam()), [](Communicator& world) {
    Loop loop(name(), world);
    expect_error(
        [&] {
          if (world.rank() == 1) world.barrier();
          loop.step();
          world.barrier();
        },
        "in backward() at misuse_test.cpp:");
  });
}

TEST_P(Misuse, ThatEndsInAnAbandonedStepLeavesTheParametersAsTheyAre) {
  on_ranks([](Loop& loop) {
    const at::Tensor before = loop.model->weight.detach().clone();
    loop.strategy->begin();
    loop.strategy->backward(loop.loss());
    loop.strategy->abandon_step();
    loop.strategy->begin();
    loop.strategy->backward(loop.loss());
    loop.strategy->reduce_gradients();
    loop.strategy->abandon_step();
    EXPECT_TRUE(loop.model->weight.equal(before));
    loop.step();
    EXPECT_TRUE(loop.model->weight.allclose(before - 0.1));
  });
}

INSTANTIATE_TEST_SUITE_P(Ranks, Misuse,
                         testing::Combine(test::kStrategyNames, testing::Values(1, 3)),
                         test::strategy_on_ranks);

}  // namespace
}  // namespace trireme
