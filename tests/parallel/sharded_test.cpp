#include "trireme/parallel/sharded.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/nn/functional/loss.h>
#include <torch/nn/modules/activation.h>
#include <torch/nn/modules/container/sequential.h>
#include <torch/nn/modules/linear.h>

#include <cstring>
#include <map>
#include <mutex>

#include "tests/comm/ranks.h"
#include "tests/parallel/sharded_run.h"
#include "tests/tensor/random_tensor.h"
#include "trireme/base/error.h"
#include "trireme/optim/adam.h"
#include "trireme/optim/make_optimizer.h"
#include "trireme/parallel/replicated.h"

namespace trireme {
namespace {

using test::ShardedCase;
using test::TrainedSteps;

using testing::HasSubstr;
using testing::ThrowsMessage;

constexpr int kSteps = 3;

// The same layout on what connects the ranks, and with one or more virtual workers a rank.
struct Layout {
  const char* name;
  int ranks;
  test::World world;
  int virtual_workers;
  bool within_host = false;
};

const Layout kLayouts[] = {
    {"1 rank", 1, test::World::kOneHost, 4},
    {"2 ranks of a host", 2, test::World::kOneHost, 4},
    {"3 ranks of a host", 3, test::World::kOneHost, 4},
    {"4 ranks of a host, a virtual worker each", 4, test::World::kOneHost, 4},
    {"2 hosts of one rank", 2, test::World::kHostsOfOne, 4},
    {"3 hosts of one rank", 3, test::World::kHostsOfOne, 4},
    {"4 hosts of one rank, a virtual worker each", 4, test::World::kHostsOfOne, 4},
    {"2 hosts of two ranks", 4, test::World::kHostsOfTwo, 4},
    {"2 hosts of two ranks and one, within the host", 3, test::World::kHostsOfTwo, 4, true},
};

void expect_same(const TrainedSteps& actual, const TrainedSteps& expected) {
  EXPECT_EQ(actual.losses, expected.losses);
  EXPECT_EQ(actual.norms, expected.norms);
  EXPECT_EQ(actual.outputs, expected.outputs);
  EXPECT_EQ(actual.tensors, expected.tensors);
  EXPECT_TRUE(test::is_same(actual, expected));
}

class ShardedBits : public testing::TestWithParam<int> {};

TEST_P(ShardedBits, AreThoseOfOneProcessInEveryLayout) {
  const TrainedSteps expected = test::train_replicated({}, kSteps);
  ASSERT_GT(expected.tensors.size(), 20U);
  for (const Layout& layout : kLayouts) {
    SCOPED_TRACE(layout.name);
    expect_same(test::train_sharded({.stage = GetParam(), .within_host = layout.within_host},
                                    {.ranks = layout.ranks,
                                     .world = layout.world,
                                     .virtual_workers = layout.virtual_workers},
                                    kSteps),
                expected);
  }
}

TEST_P(ShardedBits, AreTheSameWithRecomputationAndMixedPrecision) {
  for (const DType type : {DType::kF32, DType::kBF16, DType::kF16}) {
    const ShardedCase base{.compute = type};
    const TrainedSteps expected = test::train_replicated(base, kSteps);
    for (const test::World world : {test::World::kOneHost, test::World::kHostsOfOne}) {
      SCOPED_TRACE(std::string(name_of(type)));
      ShardedCase one = base;
      one.ranks = 3;
      one.world = world;
      one.recompute = Recompute::kFull;
      expect_same(test::train_sharded({.stage = GetParam()}, one, kSteps), expected);
    }
  }
}

TEST_P(ShardedBits, AreTheSameForEachOptimizer) {
  for (const std::string& optimizer : optimizer_names()) {
    const ShardedCase base{.optimizer = optimizer};
    const TrainedSteps expected = test::train_replicated(base, 2);
    for (const test::World world : {test::World::kOneHost, test::World::kHostsOfOne}) {
      SCOPED_TRACE(optimizer);
      ShardedCase one = base;
      one.ranks = 3;
      one.world = world;
      const ShardingOptions sharding{.stage = GetParam(),
                                     .whole_parameters = needs_whole_parameters(optimizer)};
      expect_same(test::train_sharded(sharding, one, 2), expected);
    }
  }
}

TEST_P(ShardedBits, AreThoseOfAModelThatNoRankEverHeld) {
  const TrainedSteps expected = test::train_replicated({}, 2);
  for (const test::World world :
       {test::World::kOneHost, test::World::kHostsOfOne, test::World::kHostsOfTwo}) {
    for (const int ranks : {1, 3}) {
      SCOPED_TRACE(ranks);
      expect_same(test::train_sharded({.stage = GetParam()},
                                      {.ranks = ranks, .world = world, .defers_weights = true}, 2),
                  expected);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Stage, ShardedBits, testing::Values(1, 2, 3),
                         testing::PrintToStringParamName());

TEST(Sharded, OptimizersOfWholeParametersAreRefusedIfParametersAreCut) {
  test::run_ranks(2, [](Communicator& world) {
    const auto model = test::sharded_model({});
    const auto strategy = sharded(world, {.stage = 2});
    const auto shards = strategy->attach(*model);
    for (const char* name : {"lamb", "muon"}) {
      EXPECT_THAT([&] { make_optimizer({.name = name}, shards); },
                  ThrowsMessage<UsageError>(HasSubstr("whole")));
    }
  });
}

TEST(Sharded, RefusesWhatItCannotDo) {
  test::run_ranks(2, [](Communicator& world) {
    EXPECT_THAT([&] { sharded(world, {.stage = 4}); },
                ThrowsMessage<UsageError>(HasSubstr("stage must be 1, 2 or 3, got 4")));
    EXPECT_THAT([&] { sharded(world, {}, {.compression = {.codec = "int8"}}); },
                ThrowsMessage<UsageError>(HasSubstr("compression must be \"none\"")));
  });
}

// Each rank's parts, and what it holds of them at once.
TEST(Sharded, APartIsAnEqualShareWithinABlock) {
  for (const int ranks : {2, 3, 4}) {
    std::mutex mutex;
    std::vector<std::int64_t> elements;
    std::int64_t all = 0;
    test::run_ranks(ranks, [&](Communicator& world) {
      torch::nn::Sequential module(torch::nn::Linear(300, 400), torch::nn::Linear(400, 300));
      const auto strategy = sharded(world, {.stage = 2}, {.bucket_bytes = 1 << 30});
      std::int64_t own = 0;
      for (const Shard& shard : strategy->attach(*module)) {
        EXPECT_EQ(shard.region.range().begin % kBlockElements, 0);
        own += shard.values.count;
      }
      const std::lock_guard lock(mutex);
      elements.push_back(own);
      all = 300 * 400 * 2 + 300 + 400;
    });
    std::int64_t sum = 0;
    for (const std::int64_t own : elements) {
      sum += own;
      EXPECT_NEAR(static_cast<double>(own), static_cast<double>(all) / ranks, kBlockElements);
    }
    EXPECT_EQ(sum, all);
  }
}

torch::nn::Sequential three_layers() {
  return torch::nn::Sequential(torch::nn::Linear(20, 300), torch::nn::Tanh(),
                               torch::nn::Linear(300, 300), torch::nn::Linear(300, 2));
}

TEST(Sharded, AFreedParameterIsNaNAndComesBackAtEachUse) {
  test::run_ranks_over_messages(2, [](Communicator& world) {
    torch::nn::Sequential module = three_layers();
    const at::Tensor weight = module->parameters()[2];
    const at::Tensor before = weight.detach().clone();
    const auto strategy = sharded(world, {.stage = 3});
    strategy->attach(*module);
    EXPECT_FALSE(strategy->holds_parameters());
    EXPECT_TRUE(weight.isnan().all().item<bool>());
    if (world.rank() == 0) {
      // Of what it sends to other ranks a rank computes nothing else.
      EXPECT_TRUE(module->forward<at::Tensor>(at::ones({1, 20})).isnan().all().item<bool>());
    }
    world.barrier();
    {
      const at::NoGradGuard no_grad;
      const at::Tensor y = strategy->model().forward(at::ones({1, 20}));
      EXPECT_FALSE(y.isnan().any().item<bool>());
    }
    EXPECT_TRUE(weight.isnan().all().item<bool>());
    strategy->begin();
    strategy->backward(strategy->model().forward(at::ones({1, 20})).sum());
    strategy->reduce_gradients();
    EXPECT_TRUE(weight.isnan().all().item<bool>());
    Adam adam(strategy->shards(), {.lr = 0.1});
    strategy->update(adam);
  });
}

TEST(Sharded, ARankWithoutAPassSkipsIt) {
  test::run_ranks_over_messages(3, [](Communicator& world) {
    torch::nn::Sequential module = three_layers();
    const auto strategy = sharded(world, {.stage = 3});
    strategy->attach(*module);
    if (world.rank() == 1) {
      strategy->model().skip_forward();
    } else {
      const at::NoGradGuard no_grad;
      EXPECT_TRUE(strategy->model().forward(at::ones({1, 20})).isfinite().all().item<bool>());
    }
  });
}

TEST(Sharded, SaysHowToComputeWithGatheredParameters) {
  test::run_ranks_over_messages(2, [](Communicator& world) {
    torch::nn::Sequential module = three_layers();
    const auto strategy = sharded(world, {.stage = 3});
    strategy->attach(*module);
    strategy->begin();
    strategy->backward(module->forward<at::Tensor>(at::ones({1, 20})).sum());
    EXPECT_THAT([&] { strategy->reduce_gradients(); },
                ThrowsMessage<UsageError>(HasSubstr("call strategy->model().forward(x)")));
  });
}

TEST(Sharded, RefusesMorePassesThanTheStepHas) {
  test::run_ranks_over_messages(2, [](Communicator& world) {
    torch::nn::Sequential module = three_layers();
    const auto strategy = sharded(world, {.stage = 3});
    strategy->attach(*module);
    strategy->begin();
    strategy->model().forward(at::ones({1, 20}));
    EXPECT_THAT(
        [&] {
          strategy->model().forward(at::ones({1, 20}));
        },
        ThrowsMessage<UsageError>(HasSubstr("must be followed by its backward pass")));
    strategy->abandon_step();
    // The next step is whole.
    strategy->begin();
    strategy->backward(strategy->model().forward(at::ones({1, 20})).sum());
    EXPECT_TRUE(strategy->reduce_gradients().is_finite);
    strategy->abandon_step();
  });
}

TEST(Sharded, RefusesValuesThatAreLoadedIntoFreedParameters) {
  test::run_ranks_over_messages(2, [](Communicator& world) {
    torch::nn::Sequential module = three_layers();
    const auto strategy = sharded(world, {.stage = 3});
    strategy->attach(*module);
    module->parameters()[0].set_data(at::ones({300, 20}));
    EXPECT_THAT([&] { strategy->begin(); },
                ThrowsMessage<UsageError>(HasSubstr("load a model before attach()")));
  });
}

// A rank that fails in the middle of a pass and gives the step up does not leave the others alone.
TEST(Sharded, AStepThatOneRankAbandonsEndsOnAllRanks) {
  test::run_ranks_over_messages(3, [](Communicator& world) {
    torch::nn::Sequential module = three_layers();
    const auto strategy = sharded(world, {.stage = 3});
    Adam adam(strategy->attach(*module), {.lr = 0.1});
    for (int step = 0; step < 3; ++step) {
      strategy->begin();
      if (world.rank() == step) {
        // A block is left out, then the pass.
        EXPECT_THROW(strategy->model().forward(at::ones({1, 7}), {1, 4}), c10::Error);
        strategy->abandon_step();
        continue;
      }
      strategy->backward(strategy->model().forward(at::ones({1, 20})).sum());
      strategy->reduce_gradients();
      strategy->abandon_step();
    }
  });
}

TEST(Sharded, AGroupOfOneSendsNothing) {
  for (const int stage : {1, 2, 3}) {
    test::run_ranks(1, [&](Communicator& world) {
      const auto model = test::sharded_model({});
      const auto strategy = sharded(world, {.stage = stage});
      const auto shards = strategy->attach(*model);
      EXPECT_TRUE(strategy->shards_are_whole());
      for (const Shard& shard : shards) EXPECT_TRUE(shard.region.is_whole()) << shard.name;
      EXPECT_EQ(world.traffic() + strategy->traffic(), Traffic());
    });
  }
}

// With one virtual worker a rank: elements sent a step are 2, 2 and 3 times the parameters, times
// (N - 1) / N, but that stage 3 keeps the last block from its forward to its backward pass.
TEST(Sharded, SendsWhatTheFormulasSay) {
  constexpr std::int64_t kLast = 4096 * 8;
  constexpr std::int64_t kParameters = 4096 * 16 + kLast;
  for (const int ranks : {2, 4}) {
    for (const int stage : {1, 2, 3}) {
      std::mutex mutex;
      std::int64_t sent = 0;
      std::int64_t beside = 0;
      test::run_ranks_over_messages(ranks, [&](Communicator& world) {
        torch::nn::Sequential module(
            torch::nn::Linear(torch::nn::LinearOptions(128, 512).bias(false)),
            torch::nn::Linear(torch::nn::LinearOptions(512, 64).bias(false)));
        const auto strategy = sharded(world, {.stage = stage});
        Adam adam(strategy->attach(*module), {.lr = 0.1});
        const auto step = [&](bool computes) {
          const Traffic before = world.traffic() + strategy->traffic();
          strategy->begin();
          if (computes) strategy->backward(strategy->model().forward(at::ones({1, 128})).sum());
          strategy->reduce_gradients();
          strategy->update(adam);
          return (world.traffic() + strategy->traffic() - before).sent;
        };
        step(true);
        const std::int64_t bytes = step(true);
        const std::lock_guard lock(mutex);
        sent += bytes;
        beside = 4096;  // a step's metadata and the headers of messages
      });
      const double times = stage < 3 ? 2 : 3;
      const double elements =
          (times * kParameters - (stage == 3 ? kLast : 0)) * (ranks - 1) / ranks;
      EXPECT_NEAR(static_cast<double>(sent) / ranks / 4, elements,
                  static_cast<double>(beside) * ranks / 4)
          << "stage " << stage << " on " << ranks << " ranks";
    }
  }
}

}  // namespace
}  // namespace trireme
