// verify() must find no difference where bits are promised, and name what differs where a step is
// broken on purpose.

#include "trireme/train/verify.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/nn/functional/loss.h>
#include <torch/nn/modules/batchnorm.h>
#include <torch/nn/modules/linear.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <tuple>
#include <vector>

#include "tests/comm/rank_counts.h"
#include "tests/comm/ranks.h"
#include "tests/parallel/named_strategies.h"
#include "tests/tensor/random_tensor.h"
#include "trireme/base/error.h"
#include "trireme/config/config.h"
#include "trireme/model/module_block.h"
#include "trireme/optim/adam.h"
#include "trireme/optim/make_optimizer.h"
#include "trireme/parallel/host_shared.h"
#include "trireme/parallel/replicated.h"
#include "trireme/plan/resolve.h"
#include "trireme/train/verify_run.h"

namespace trireme {
namespace {

using test::random_tensor;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Pair;
using testing::ThrowsMessage;

constexpr int kVirtualWorkers = 4;

// first.weight is so large that strategies cut it.
struct Net : torch::nn::Module {
  Net() {
    first = register_module("first", torch::nn::Linear(20, 700));
    norm = register_module("norm", torch::nn::BatchNorm1d(700));
    second = register_module("second", torch::nn::Linear(700, 1));
    frozen = register_module("frozen", torch::nn::Linear(700, 1));
    std::uint64_t seed = 1;
    const at::NoGradGuard no_grad;
    for (at::Tensor& p : parameters()) p.copy_(random_tensor(p.sizes(), seed++).mul_(0.2));
    for (at::Tensor& p : frozen->parameters()) p.set_requires_grad(false);
  }

  at::Tensor forward(const at::Tensor& x) {
    const at::Tensor hidden = norm(first(x)).relu();
    return second(hidden) + frozen(hidden);
  }

  torch::nn::Linear first{nullptr}, second{nullptr}, frozen{nullptr};
  torch::nn::BatchNorm1d norm{nullptr};
};

template <class Network>
at::Tensor loss_of(Network& net, std::int64_t step, std::int64_t worker) {
  const auto seed = static_cast<std::uint64_t>(1000 + step * 100 + worker);
  const at::Tensor y = net.forward(random_tensor({5, 20}, seed));
  return torch::mse_loss(y, random_tensor(y.sizes(), seed + 50000));
}

/// What a training on one rank consists of, and where a test breaks it.
struct Parts {
  Communicator& ranks;
  Net& net;
  Strategy& strategy;
  Optimizer& optimizer;
  std::int64_t step = 0;  // counted from 1
  double loss = 0;
};

struct Hooks {
  using Hook = std::function<void(Parts&)>;
  Hook attached = [](Parts&) {};
  Hook reduced = [](Parts&) {};
  Hook updated = [](Parts&) {};
};

void train(const std::string& strategy_name, Communicator& ranks, StepComparison& comparison,
           const Hooks& hooks) {
  const bool is_reference = comparison.is_reference();
  const auto net = std::make_shared<Net>();
  const auto model = model_of(net);
  const auto strategy =
      test::strategy_named(is_reference ? "replicated" : strategy_name, ranks,
                           {.virtual_workers = kVirtualWorkers, .bucket_bytes = 8192});
  const auto shards = strategy->attach(*model);
  Hooks own = is_reference ? Hooks() : hooks;
  // Servers descend by plain SGD.
  const auto optimizer = make_optimizer(
      {.name = strategy_name == "parameter_server" ? "sgd" : "adamw", .lr = 0.01}, shards);
  Parts parts{.ranks = ranks, .net = *net, .strategy = *strategy, .optimizer = *optimizer};
  own.attached(parts);
  const Range mine = strategy->virtual_workers();
  for (std::int64_t step = 0; comparison.goes_on(); ++step) {
    parts.step = step + 1;
    strategy->begin();
    for (std::int64_t worker = mine.begin; worker < mine.end; ++worker) {
      strategy->backward(loss_of(*model, step, worker));
    }
    parts.loss = strategy->reduce_gradients().loss;
    std::optional<double> norm;
    if (step % 2 == 0) norm = strategy->gradient_norm();
    own.reduced(parts);
    strategy->update(*optimizer);
    own.updated(parts);
    comparison.compare(
        {.strategy = *strategy, .optimizer = optimizer.get(), .loss = parts.loss, .norm = norm});
  }
}

// Returns what every rank returned: the same.
Verification verified(const std::string& strategy_name, int ranks, const Hooks& hooks = {},
                      VerifyOptions options = {}) {
  std::mutex mutex;
  std::vector<Verification> results;
  test::run_ranks(ranks + 1, [&](Communicator& world) {
    const Verification result = verify(
        world,
        [&](Communicator& own, StepComparison& comparison) {
          train(strategy_name, own, comparison, hooks);
        },
        options);
    const std::scoped_lock lock(mutex);
    results.push_back(result);
  });
  for (const Verification& result : results) {
    EXPECT_EQ(result.steps, results.front().steps);
    EXPECT_EQ(result.compared, results.front().compared);
    EXPECT_EQ(result.difference.has_value(), results.front().difference.has_value());
    if (!result.difference || !results.front().difference) continue;
    EXPECT_EQ(result.difference->tensor, results.front().difference->tensor);
    EXPECT_EQ(result.difference->rank, results.front().difference->rank);
  }
  return results.front();
}

Difference difference_in(const std::string& strategy_name, int ranks, const Hooks& hooks) {
  const Verification result = verified(strategy_name, ranks, hooks);
  EXPECT_TRUE(result.difference) << "the broken step was not found";
  return result.difference.value_or(Difference());
}

// The values of a parameter of the model, which the strategy may have moved.
float* values_of_parameter(Parts& parts, const std::string& name) {
  return parts.net.named_parameters()[name].data_ptr<float>();
}

// Null if this rank has no shard of the parameter.
Shard* shard_of(Parts& parts, const std::string& name) {
  for (Shard& shard : parts.strategy.shards()) {
    if (shard.name == name) return &shard;
  }
  return nullptr;
}

void scale_gradient(Shard& shard, float factor) {
  ASSERT_EQ(shard.tree, nullptr);
  auto* values = static_cast<float*>(const_cast<void*>(shard.gradient.front()));
  for (std::int64_t i = 0; i < shard.values.count; ++i) values[i] *= factor;
}

class EveryLayout : public testing::TestWithParam<std::tuple<std::string, int>> {};

TEST_P(EveryLayout, HasTheBitsOfOneRank) {
  const auto& [name, ranks] = GetParam();
  const Verification result = verified(name, ranks);
  ASSERT_FALSE(result.difference) << result.difference->kind << " " << result.difference->tensor
                                  << " of rank " << result.difference->rank << " in step "
                                  << result.difference->step;
  EXPECT_EQ(result.steps, 3);
  std::map<std::string, std::int64_t> expected{
      {"loss", 1}, {"norm", 1}, {"parameter", 8}, {"buffer", 3}};
  if (name != "parameter_server" && name != "local_steps") {
    expected["gradient"] = 6;
    expected["optimizer state"] = 18;
  }
  EXPECT_EQ(result.compared, expected);
}

INSTANTIATE_TEST_SUITE_P(Verify, EveryLayout,
                         testing::Combine(test::kStrategyNames,
                                          testing::ValuesIn(test::rank_counts())),
                         test::strategy_on_ranks);

TEST(Verify, HasTheBitsOfOneRankOnTwoHosts) {
  for (const std::string name : {"replicated", "sharded1", "sharded2", "sharded3"}) {
    // The reference is on a host of its own.
    test::run_ranks_on_hosts(
        4, [](int rank) { return rank == 3 ? 2 : rank / 2; },
        [&](Communicator& world) {
          const Verification result =
              verify(world, [&](Communicator& own, StepComparison& comparison) {
                train(name, own, comparison, {});
              });
          EXPECT_FALSE(result.difference) << name << ": " << result.difference->tensor;
        });
  }
}

TEST(Verify, NamesAGradientThatIsDoubledOnOneRank) {
  Hooks hooks;
  hooks.reduced = [](Parts& parts) {
    if (parts.step == 3 && parts.ranks.rank() == 1) {
      scale_gradient(*shard_of(parts, "second.weight"), 2);
    }
  };
  const Difference found = difference_in("replicated", 3, hooks);
  EXPECT_EQ(found.kind, "gradient");
  EXPECT_EQ(found.tensor, "second.weight");
  EXPECT_EQ(found.step, 3);
  EXPECT_EQ(found.rank, 1);
  EXPECT_EQ(found.index, 0);
  EXPECT_EQ(found.of_elements, 700);
  EXPECT_FLOAT_EQ(std::stof(found.value), 2 * std::stof(found.expected));
}

// What the rank has without its peers: the mean over its own virtual workers.
TEST(Verify, NamesAGradientThatIsNotReduced) {
  Hooks hooks;
  hooks.reduced = [](Parts& parts) {
    if (parts.ranks.rank() != 1) return;
    Net alone;
    const Range mine = parts.strategy.virtual_workers();
    for (std::int64_t worker = mine.begin; worker < mine.end; ++worker) {
      loss_of(alone, parts.step - 1, worker).backward();
    }
    const at::Tensor own = alone.first->bias.grad() / static_cast<double>(mine.size());
    Shard& shard = *shard_of(parts, "first.bias");
    std::memcpy(const_cast<void*>(shard.gradient.front()), own.data_ptr(), own.nbytes());
  };
  const Difference found = difference_in("replicated", 2, hooks);
  EXPECT_EQ(found.kind, "gradient");
  EXPECT_EQ(found.tensor, "first.bias");
  EXPECT_EQ(found.step, 1);
  EXPECT_EQ(found.rank, 1);
}

TEST(Verify, NamesACutThatIsShiftedByOne) {
  Hooks hooks;
  hooks.attached = [](Parts& parts) {
    if (parts.ranks.rank() != 1) return;
    Shard& shard = *shard_of(parts, "first.weight");
    ASSERT_EQ(shard.region.range(), (Range{12288, 14000}));
    shard.region = Region({700, 20}).slice({12287, 13999});
  };
  const Difference found = difference_in("host_shared", 3, hooks);
  EXPECT_EQ(found.kind, "gradient");
  EXPECT_EQ(found.tensor, "first.weight");
  EXPECT_EQ(found.step, 1);
  EXPECT_EQ(found.rank, 1);
  EXPECT_EQ(found.index, 12287);
  EXPECT_EQ(found.of_elements, 1712);
}

TEST(Verify, NamesAnElementThatNoRankHolds) {
  Hooks hooks;
  hooks.attached = [](Parts& parts) {
    if (parts.ranks.rank() != 1) return;
    Shard& shard = *shard_of(parts, "first.weight");
    shard.region = Region({700, 20}).slice({12288, 13999});
    --shard.values.count;
  };
  const Difference found = difference_in("host_shared", 3, hooks);
  EXPECT_EQ(found.kind, "gradient");
  EXPECT_EQ(found.tensor, "first.weight");
  EXPECT_EQ(found.rank, -1);
  EXPECT_EQ(found.index, 13999);
  EXPECT_EQ(found.elements, 1);
  EXPECT_EQ(found.value, "none");
}

// Rank 1 goes on with the old values of what its peer has updated.
TEST(Verify, NamesAParameterThatIsNotPublished) {
  for (const std::string name : {"sharded1", "sharded2"}) {
    std::vector<float> before;
    std::int64_t not_published = 0;
    Hooks hooks;
    hooks.reduced = [&](Parts& parts) {
      if (parts.ranks.rank() != 1) return;
      const float* const values = values_of_parameter(parts, "first.weight");
      before.assign(values, values + 14000);
    };
    hooks.updated = [&](Parts& parts) {
      if (parts.ranks.rank() != 1 || parts.step < 2) return;
      const Range own = shard_of(parts, "first.weight")->region.range();
      ASSERT_LT(own.size(), 14000);
      float* const values = values_of_parameter(parts, "first.weight");
      std::copy(before.begin(), before.begin() + own.begin, values);
      std::copy(before.begin() + own.end, before.end(), values + own.end);
      not_published = own.begin > 0 ? 0 : own.end;
    };
    const Difference found = difference_in(name, 2, hooks);
    EXPECT_EQ(found.kind, "parameter") << name;
    EXPECT_EQ(found.tensor, "first.weight");
    EXPECT_EQ(found.step, 2);
    EXPECT_EQ(found.rank, 1);
    EXPECT_EQ(found.index, not_published);
    EXPECT_EQ(found.of_elements, 14000);
  }
}

TEST(Verify, NamesStateOfTheOptimizerBuffersLossAndCounters) {
  struct Case {
    Hooks::Hook updated;
    std::string kind, tensor, value;
  };
  const std::vector<Case> cases = {
      {[](Parts& parts) { parts.optimizer.shard_states()[2].arrays[1].as<float>()[5] = 7; },
       "optimizer state", "norm.weight.exp_avg_sq", "7"},
      {[](Parts& parts) { parts.optimizer.shard_states()[2].step = 9; }, "optimizer state",
       "norm.weight.step", "9"},
      {[](Parts& parts) { parts.net.norm->running_var[3] = 0.5; }, "buffer", "norm.running_var",
       "0.5"},
      {[](Parts& parts) { parts.net.norm->num_batches_tracked.add_(1); }, "buffer",
       "norm.num_batches_tracked", "2"},
      {[](Parts& parts) { parts.net.frozen->bias.data()[0] = 0.25; }, "parameter", "frozen.bias",
       "0.25"},
      {[](Parts& parts) { parts.loss = 3; }, "loss", "", "3"},
  };
  for (const Case& one : cases) {
    Hooks hooks;
    hooks.updated = [&](Parts& parts) {
      if (parts.ranks.rank() == 2) one.updated(parts);
    };
    const Difference found = difference_in("replicated", 3, hooks);
    EXPECT_EQ(found.kind, one.kind);
    EXPECT_EQ(found.tensor, one.tensor);
    EXPECT_EQ(found.value, one.value) << one.tensor;
    EXPECT_EQ(found.rank, 2);
    EXPECT_EQ(found.step, 1);
    EXPECT_EQ(found.elements, 1);
  }
}

TEST(Verify, NamesATensorOfAnotherShape) {
  Hooks hooks;
  hooks.attached = [](Parts& parts) {
    shard_of(parts, "second.weight")->region = Region({700, 1});
  };
  const Difference found = difference_in("replicated", 1, hooks);
  EXPECT_EQ(found.tensor, "second.weight");
  EXPECT_EQ(found.value, "f32[700, 1]");
  EXPECT_EQ(found.expected, "f32[1, 700]");
}

TEST(Verify, NamesATensorThatOneRankDoesNotHave) {
  Hooks hooks;
  hooks.attached = [](Parts& parts) { shard_of(parts, "second.weight")->name = "third.weight"; };
  const Difference lacks = difference_in("replicated", 1, hooks);
  EXPECT_EQ(lacks.tensor, "second.weight");
  EXPECT_EQ(lacks.rank, -1);
  EXPECT_EQ(lacks.elements, 700);
  hooks.attached = [](Parts&) {};
  hooks.updated = [](Parts& parts) {
    if (parts.ranks.rank() == 1) parts.net.register_buffer("more", at::zeros({3}));
  };
  const Difference more = difference_in("replicated", 2, hooks);
  EXPECT_EQ(more.kind, "buffer");
  EXPECT_EQ(more.tensor, "more");
  EXPECT_EQ(more.rank, 1);
  EXPECT_EQ(more.expected, "none");
}

TEST(Verify, ComparesByABoundIfOneIsGiven) {
  Hooks hooks;
  hooks.reduced = [](Parts& parts) {
    if (parts.ranks.rank() == 0) scale_gradient(*shard_of(parts, "second.weight"), 1.0002F);
  };
  EXPECT_TRUE(verified("replicated", 2, hooks, {.steps = 1}).difference);
  EXPECT_TRUE(verified("replicated", 2, hooks, {.steps = 1, .bound = 1e-5}).difference);
  EXPECT_FALSE(verified("replicated", 2, hooks, {.steps = 1, .bound = 1e-3}).difference);
}

TEST(Verify, ThrowsTheErrorOfARank) {
  Hooks hooks;
  hooks.reduced = [](Parts& parts) {
    if (parts.step == 2 && parts.ranks.rank() == 1) throw DataError("a torn file");
  };
  EXPECT_THAT([&] { verified("replicated", 2, hooks); },
              ThrowsMessage<DataError>(HasSubstr("a torn file")));
}

TEST(Verify, NeedsARankBesideTheReference) {
  EXPECT_THAT([&] { verified("replicated", 0); },
              ThrowsMessage<UsageError>(HasSubstr("at least one more, got 1 rank")));
}

std::shared_ptr<Net> make_net() {
  return std::make_shared<Net>();
}

// clang-format off
TEST(Verify, IsUsedAsItsDocumentSays) {
  test::run_ranks(4, [](Communicator& four) {
    Communicator* const world = &four;
    const trireme::Verification result = trireme::verify(
        *world, [&](trireme::Communicator& ranks, trireme::StepComparison& comparison) {
          auto net = make_net();
          auto strategy = comparison.is_reference()
                              ? trireme::replicated(ranks, {.virtual_workers = 6})
                              : trireme::host_shared(ranks, {.virtual_workers = 6});
          trireme::AdamW optimizer(strategy->attach(*net), {.lr = 1e-3});
          const trireme::Range mine = strategy->virtual_workers();
          for (std::int64_t step = 0; comparison.goes_on(); ++step) {
            strategy->begin();
            for (auto worker = mine.begin; worker < mine.end; ++worker) {
              strategy->backward(loss_of(*net, step, worker));
            }
            const double loss = strategy->reduce_gradients().loss;
            strategy->update(optimizer);
            comparison.compare({.strategy = *strategy, .optimizer = &optimizer, .loss = loss});
          }
        });
    EXPECT_FALSE(result.difference);
    EXPECT_EQ(result.steps, 3);
  });
}
// clang-format on

// The function that `trireme verify` calls.
Verification verified_run(int ranks, std::vector<std::string> words) {
  words.insert(words.end(), {"data.samples=120", "training.global_batch=24",
                             "training.virtual_workers=4", "training.steps=9"});
  const Config config = read_config("", words);
  Verification result;
  test::run_ranks(ranks + 1, [&](Communicator& world) {
    const Verification own = verify(config, world);
    if (world.rank() == 0) result = own;
  });
  return result;
}

TEST(VerifyRun, FindsTheBitsOfOneRankInEveryStage) {
  for (const std::string layout :
       {"parallelism.shard=0", "parallelism.shard=1", "parallelism.shard=2", "parallelism.shard=3",
        "parallelism.strategy=host_shared"}) {
    const Verification result = verified_run(3, {layout, "model.name=mlp", "model.hidden=[9]",
                                                 "optimizer.name=adam", "training.clip_norm=0.1"});
    EXPECT_FALSE(result.difference) << layout << ": " << result.difference->tensor;
    EXPECT_EQ(result.steps, 3);
    EXPECT_THAT(result.compared, ElementsAre(Pair("gradient", 4), Pair("loss", 1), Pair("norm", 1),
                                             Pair("optimizer state", 12), Pair("parameter", 4)));
  }
}

TEST(VerifyRun, EndsWithARunOfFewerSteps) {
  const Verification result = verified_run(2, {"training.epochs=1"});
  EXPECT_EQ(result.steps, 3);
  const Verification short_run = verified_run(2, {"data.samples=24", "training.epochs=2"});
  EXPECT_FALSE(short_run.difference);
}

TEST(VerifyRun, RefusesWhatHasNothingToCompare) {
  const auto plan_of = [](std::vector<std::string> words) {
    words.push_back("training.virtual_workers=2");
    return plan::resolve(read_config("", words), 2);
  };
  const plan::RunPlan local = plan_of({"communication.mode=hybrid"});
  EXPECT_THAT([&] { require_comparable(local, 0.5); },
              ThrowsMessage<UsageError>(HasSubstr("communication.mode must be \"synchronous\"")));
  const plan::RunPlan compressed = plan_of({"communication.compression=int8"});
  EXPECT_THAT(
      [&] { require_comparable(compressed, 0); },
      ThrowsMessage<UsageError>(AllOf(HasSubstr("\"int8\" changes bits"), HasSubstr("--bound"))));
  EXPECT_NO_THROW(require_comparable(compressed, 0.1));
}

}  // namespace
}  // namespace trireme
