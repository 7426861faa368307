// A loop of a user's own that was stopped and resumed has the bits of one that was not.

#include "trireme/train/loop_checkpointer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/optim/adam.h>
#include <torch/optim/sgd.h>

#include <cmath>
#include <limits>

#include "tests/base/memory_files.h"
#include "tests/comm/ranks.h"
#include "tests/parallel/named_strategies.h"
#include "tests/parallel/small_net.h"
#include "trireme/base/error.h"
#include "trireme/comm/self/self.h"
#include "trireme/optim/sgd.h"
#include "trireme/parallel/replicated.h"

namespace trireme::test {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::ThrowsMessage;

constexpr int kVirtualWorkers = 6;
constexpr std::int64_t kLast = 8;

std::string bits_of(const torch::nn::Module& module) {
  std::string bits;
  const auto append = [&](const at::Tensor& tensor) {
    const at::Tensor dense = tensor.detach().contiguous();
    bits.append(static_cast<const char*>(dense.data_ptr()), dense.nbytes());
  };
  for (const at::Tensor& p : module.parameters()) append(p);
  for (const at::Tensor& b : module.buffers()) append(b);
  return bits;
}

void spoil(torch::nn::Module& module) {
  const at::NoGradGuard no_grad;
  for (at::Tensor& p : module.parameters()) p.fill_(9);
  for (at::Tensor& b : module.buffers()) b.fill_(9);
}

// Step `step`, counted from 0, with rows that depend on step and virtual worker alone.
template <class Optimizer>
void make_step(SmallNet& net, Strategy& strategy, Optimizer& optimizer, std::int64_t step) {
  strategy.begin();
  const Range workers = strategy.virtual_workers();
  for (std::int64_t worker = workers.begin; worker < workers.end; ++worker) {
    const auto x = random_tensor({4, 5}, static_cast<std::uint64_t>(1000 + 100 * step + worker));
    strategy.backward((net.forward(x) - x.sum(1, true)).square().mean());
  }
  strategy.reduce_gradients();
  strategy.update(optimizer, Sync::kNow);
}

/// A loop with one of trireme's optimizers.
struct Loop {
  Loop(const std::string& name, Communicator& world, Files& files)
      : strategy(strategy_named(name, world, {.virtual_workers = kVirtualWorkers})),
        // The servers of these tests descend by plain SGD.
        optimizer(strategy->attach(net),
                  {.lr = 0.05, .momentum = name == "parameter_server" ? 0 : 0.9}),
        checkpoints("run", world, files) {
    checkpoints.add(*strategy, optimizer);
  }

  void run(std::int64_t first, std::int64_t last) {
    for (std::int64_t step = first; step < last; ++step) {
      make_step(net, *strategy, optimizer, step);
    }
  }

  SmallNet net;
  std::unique_ptr<Strategy> strategy;
  Sgd optimizer;
  LoopCheckpointer checkpoints;
};

class OwnLoop : public testing::TestWithParam<std::tuple<std::string, int>> {};

TEST_P(OwnLoop, ResumedHasTheBitsOfOneThatWasNotStopped) {
  const auto [name, ranks] = GetParam();
  MemoryFiles files;
  std::string whole;
  run_ranks(3, [&, name = name](Communicator& world) {
    Loop loop(name, world, files);
    EXPECT_EQ(loop.checkpoints.restore().state.step, 0);
    loop.run(0, 5);
    loop.checkpoints.save({.step = 5, .metadata = {{"note", "text"}}});
    loop.run(5, kLast);
    if (world.rank() == 0) whole = bits_of(loop.net);
    world.barrier();
  });
  run_ranks(ranks, [&, name = name](Communicator& world) {
    Loop loop(name, world, files);
    world.barrier();  // the ranks may share the parameters
    const auto restored = loop.checkpoints.restore();
    EXPECT_EQ(restored.state.step, 5);
    EXPECT_EQ(restored.state.metadata.at("note"), "text");
    EXPECT_THAT(restored.passed_over, IsEmpty());
    loop.run(5, kLast);
    EXPECT_TRUE(bits_of(loop.net) == whole);
    world.barrier();
  });
}

INSTANTIATE_TEST_SUITE_P(Ranks, OwnLoop, testing::Combine(kStrategyNames, testing::Values(1, 2, 3)),
                         strategy_on_ranks);

/// A loop with an optimizer of libtorch and its schedule.
struct TorchLoop {
  TorchLoop(Communicator& world, Files& files)
      : strategy(replicated(world, {.virtual_workers = kVirtualWorkers})),
        checkpoints("run", world, files) {
    strategy->attach(net);
    optimizer = std::make_unique<torch::optim::Adam>(net.parameters(), 0.1);
    checkpoints.add(*strategy, *optimizer);
  }

  void run(std::int64_t first, std::int64_t last) {
    for (std::int64_t step = first; step < last; ++step) {
      make_step(net, *strategy, *optimizer, step);
      for (auto& group : optimizer->param_groups()) {
        group.options().set_lr(group.options().get_lr() * 0.9);
      }
    }
  }

  SmallNet net;
  std::unique_ptr<Strategy> strategy;
  std::unique_ptr<torch::optim::Adam> optimizer;
  LoopCheckpointer checkpoints;
};

class OwnLoopOfLibtorch : public testing::TestWithParam<int> {};

TEST_P(OwnLoopOfLibtorch, ResumedHasTheBitsOfOneThatWasNotStopped) {
  MemoryFiles files;
  std::string whole;
  run_ranks(2, [&](Communicator& world) {
    TorchLoop loop(world, files);
    loop.run(0, 5);
    loop.checkpoints.save({.step = 5});
    loop.run(5, kLast);
    if (world.rank() == 0) whole = bits_of(loop.net);
  });
  run_ranks(GetParam(), [&](Communicator& world) {
    TorchLoop loop(world, files);
    spoil(loop.net);
    loop.checkpoints.restore();
    EXPECT_NEAR(loop.optimizer->param_groups()[0].options().get_lr(), 0.1 * std::pow(0.9, 5),
                1e-12);
    loop.run(5, kLast);
    EXPECT_TRUE(bits_of(loop.net) == whole);
  });
}

INSTANTIATE_TEST_SUITE_P(Ranks, OwnLoopOfLibtorch, testing::Values(1, 2, 3));

class LoopCheckpoints : public testing::Test {
 protected:
  std::unique_ptr<Communicator> alone_ = self_communicator();
  MemoryFiles files_;
};

TEST_F(LoopCheckpoints, RefuseTheStateOfAnotherOptimizer) {
  {
    TorchLoop loop(*alone_, files_);
    loop.checkpoints.save({.step = 1});
  }
  SmallNet net;
  const auto strategy = replicated(*alone_);
  strategy->attach(net);
  torch::optim::SGD sgd(net.parameters(), 0.1);
  LoopCheckpointer checkpoints("run", *alone_, files_);
  checkpoints.add(*strategy, sgd);
  EXPECT_THAT([&] { checkpoints.restore(); },
              ThrowsMessage<UsageError>(HasSubstr("no tensor \"optimizer.torch::optim::SGD\"")));
}

TEST_F(LoopCheckpoints, RefuseAnOptimizerOfOtherGroups) {
  {
    TorchLoop loop(*alone_, files_);
    loop.run(0, 1);
    loop.checkpoints.save({.step = 1});
  }
  SmallNet net;
  const auto strategy = replicated(*alone_);
  strategy->attach(net);
  torch::optim::Adam adam({net.first->weight}, 0.1);
  LoopCheckpointer checkpoints("run", *alone_, files_);
  checkpoints.add(*strategy, adam);
  EXPECT_THAT([&] { checkpoints.restore(); },
              ThrowsMessage<UsageError>(HasSubstr("optimizer.torch::optim::Adam")));
}

TEST_F(LoopCheckpoints, HoldSeveralModels) {
  const auto run = [&](bool restores) {
    SmallNet one, two;
    if (restores) spoil(two);
    const auto of_one = replicated(*alone_), of_two = replicated(*alone_);
    Sgd sgd(of_one->attach(one), {.lr = 0.1, .momentum = 0.9});
    of_two->attach(two);
    torch::optim::SGD torch_sgd(two.parameters(), torch::optim::SGDOptions(0.1).momentum(0.9));
    LoopCheckpointer checkpoints("run", *alone_, files_);
    checkpoints.add(*of_one, sgd, "one");
    checkpoints.add(*of_two, torch_sgd, "two");
    EXPECT_THAT([&] { checkpoints.add(*of_one, sgd, "two"); },
                ThrowsMessage<UsageError>(HasSubstr("got two of \"two\"")));
    const auto step = [&](std::int64_t i) {
      make_step(one, *of_one, sgd, i);
      make_step(two, *of_two, torch_sgd, i + 50);
    };
    std::int64_t done = checkpoints.restore().state.step;
    EXPECT_EQ(done, restores ? 3 : 0);
    for (; done < 3; ++done) step(done);
    if (!restores) checkpoints.save({.step = done});
    for (; done < 6; ++done) step(done);
    return bits_of(one) + bits_of(two);
  };
  const std::string whole = run(false);
  EXPECT_TRUE(run(true) == whole);
}

// Frozen after attach(), before it, and unfrozen when it is restored.
TEST_F(LoopCheckpoints, HoldFrozenParametersOnce) {
  const auto run = [&](bool restores) {
    SmallNet net;
    if (restores) spoil(net);
    net.first->bias.requires_grad_(false);
    const auto strategy = replicated(*alone_);
    Sgd sgd(strategy->attach(net), {.lr = 0.1, .momentum = 0.9});
    LoopCheckpointer checkpoints("run", *alone_, files_);
    checkpoints.add(*strategy, sgd);
    if (restores) {
      checkpoints.restore();
    } else {
      make_step(net, *strategy, sgd, 0);
      net.second->weight.requires_grad_(false);
      make_step(net, *strategy, sgd, 1);
      checkpoints.save({.step = 2});
      net.second->weight.requires_grad_(true);
    }
    make_step(net, *strategy, sgd, 2);
    return bits_of(net);
  };
  const std::string whole = run(false);
  EXPECT_TRUE(run(true) == whole);
}

TEST_F(LoopCheckpoints, KeepValuesOfTheLoopAndTheNewestOnes) {
  Loop loop("replicated", *alone_, files_);
  for (const std::int64_t step : {1, 2, 3}) {
    loop.checkpoints.save({.step = step, .sections = {{"loop", {{"best", 0.5 * step}}}}});
  }
  EXPECT_EQ(std::get<double>(loop.checkpoints.restore().state.sections.at("loop").at("best")), 1.5);
  EXPECT_EQ(loop.checkpoints.restore(2).state.step, 2);
  EXPECT_THAT([&] { loop.checkpoints.restore(1); },
              ThrowsMessage<UsageError>(HasSubstr("no checkpoint of step 1, only of: 3, 2")));
  // Those of later steps than the one that was restored are of another past.
  loop.checkpoints.save({.step = 2});
  EXPECT_EQ(loop.checkpoints.restore().state.step, 2);
}

TEST_F(LoopCheckpoints, SayWhichOnesAreDamaged) {
  Loop loop("replicated", *alone_, files_);
  loop.checkpoints.save({.step = 1});
  loop.checkpoints.save({.step = 2});
  write_file_atomically("run/step-2/rank-0.safetensors", "torn", files_);
  const auto restored = loop.checkpoints.restore();
  EXPECT_EQ(restored.state.step, 1);
  EXPECT_THAT(restored.passed_over, ElementsAre(HasSubstr("step-2/rank-0.safetensors")));
}

TEST_F(LoopCheckpoints, AreNotWrittenIfAValueIsNotFinite) {
  Loop loop("replicated", *alone_, files_);
  {
    const at::NoGradGuard no_grad;
    loop.net.second->bias.fill_(std::numeric_limits<float>::quiet_NaN());
  }
  EXPECT_THAT([&] { loop.checkpoints.save({.step = 1}); },
              ThrowsMessage<DivergedError>(HasSubstr("parameter second.bias")));
  EXPECT_EQ(loop.checkpoints.restore().state.step, 0);
}

TEST_F(LoopCheckpoints, NeedAModelThatIsAttached) {
  SmallNet net;
  const auto strategy = replicated(*alone_);
  torch::optim::SGD sgd(net.parameters(), 0.1);
  LoopCheckpointer checkpoints("run", *alone_, files_);
  EXPECT_THAT([&] { checkpoints.add(*strategy, sgd); },
              ThrowsMessage<UsageError>(HasSubstr("before attach()")));
}

}  // namespace
}  // namespace trireme::test
