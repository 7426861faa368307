#include "trireme/parallel/strategy.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/nn/functional/loss.h>
#include <torch/nn/modules/batchnorm.h>
#include <torch/nn/modules/linear.h>
#include <torch/optim/sgd.h>

#include <cmath>
#include <functional>
#include <mutex>

#include "tests/comm/ranks.h"
#include "tests/parallel/named_strategies.h"
#include "tests/tensor/random_tensor.h"
#include "trireme/base/error.h"
#include "trireme/optim/sgd.h"
#include "trireme/parallel/host_shared.h"
#include "trireme/parallel/replicated.h"
#include "trireme/tensor/named_tensors.h"

namespace trireme {
namespace {

using test::random_tensor;
using test::strategy_named;

constexpr int kVirtualWorkers = 12;
constexpr int kSteps = 4;
constexpr float kLr = 0.05f;

// Has batch normalization, a layer that only odd virtual workers use, an unused and a frozen layer.
struct Net : torch::nn::Module {
  Net() {
    first = register_module("first", torch::nn::Linear(7, 70));
    norm = register_module("norm", torch::nn::BatchNorm1d(70));
    second = register_module("second", torch::nn::Linear(70, 1));
    sometimes = register_module("sometimes", torch::nn::Linear(70, 1));
    never = register_module("never", torch::nn::Linear(3, 3));
    frozen = register_module("frozen", torch::nn::Linear(70, 1));
    std::uint64_t seed = 1;
    const at::NoGradGuard no_grad;
    for (at::Tensor& p : parameters()) p.copy_(random_tensor(p.sizes(), seed++).mul_(0.2));
    for (at::Tensor& p : frozen->parameters()) p.set_requires_grad(false);
  }

  at::Tensor forward(const at::Tensor& x, bool odd) {
    const at::Tensor hidden = norm(first(x)).relu();
    at::Tensor y = second(hidden) + frozen(hidden);
    if (odd) y = y + sometimes(hidden);
    return y;
  }

  torch::nn::Linear first{nullptr}, second{nullptr}, sometimes{nullptr}, never{nullptr},
      frozen{nullptr};
  torch::nn::BatchNorm1d norm{nullptr};
};

at::Tensor loss_of(Net& net, int step, std::int64_t worker) {
  const auto seed = static_cast<std::uint64_t>(1000 + step * 100 + worker);
  const at::Tensor x = random_tensor({5, 7}, seed);
  const at::Tensor y = random_tensor({5, 1}, seed + 50000);
  return torch::mse_loss(net.forward(x, worker % 2 == 1), y);
}

using State = std::vector<std::pair<std::string, at::Tensor>>;

State state_of(const Net& net) {
  State state;
  for (const auto& [name, tensor] : tensors_of(net).parameters) {
    state.emplace_back(name, tensor.detach().clone());
  }
  for (const auto& [name, tensor] : tensors_of(net).buffers) {
    state.emplace_back(name, tensor.clone());
  }
  return state;
}

struct Outcome {
  State state;
  std::vector<double> losses;
  std::vector<double> norms;
};

Outcome train_on(const std::string& strategy_name, int ranks, std::vector<double> shares = {}) {
  Outcome outcome;
  test::run_ranks(ranks, [&](Communicator& world) {
    Net net;
    if (world.rank() > 0) net.first->weight.data().fill_(99);  // attach() must repair this
    const auto strategy = strategy_named(
        strategy_name, world,
        {.virtual_workers = kVirtualWorkers, .shares = shares, .bucket_bytes = 1024});
    Sgd sgd(strategy->attach(net), {.lr = kLr});
    const Range mine = strategy->virtual_workers();
    std::vector<double> losses, norms;
    for (int step = 0; step < kSteps; ++step) {
      strategy->begin();
      for (std::int64_t worker = mine.begin; worker < mine.end; ++worker) {
        strategy->backward(loss_of(net, step, worker));
      }
      losses.push_back(strategy->reduce_gradients().loss);
      if (step % 2 == 1) norms.push_back(strategy->gradient_norm());
      strategy->update(sgd);
    }
    if (world.rank() == 0) outcome = {state_of(net), losses, norms};
    world.barrier();
  });
  return outcome;
}

// One process without a strategy: the gradients of the virtual workers, summed by recursion.
Outcome reference() {
  Net net;
  Outcome outcome;
  const auto parameters = net.parameters();
  const auto buffers = net.buffers();
  for (int step = 0; step < kSteps; ++step) {
    std::vector<at::Tensor> before;
    for (const at::Tensor& buffer : buffers) before.push_back(buffer.clone());
    std::vector<std::vector<at::Tensor>> gradients(parameters.size()), changes(buffers.size());
    std::vector<double> losses;
    for (int worker = 0; worker < kVirtualWorkers; ++worker) {
      net.zero_grad();
      for (const at::Tensor& p : parameters) p.mutable_grad().reset();
      const at::Tensor loss = loss_of(net, step, worker);
      losses.push_back(loss.item<double>());
      loss.backward();
      const at::NoGradGuard no_grad;
      for (std::size_t p = 0; p < parameters.size(); ++p) {
        const at::Tensor& gradient = parameters[p].grad();
        gradients[p].push_back(gradient.defined() ? gradient.clone()
                                                  : at::zeros_like(parameters[p]));
      }
      for (std::size_t b = 0; b < buffers.size(); ++b) {
        changes[b].push_back(buffers[b].to(at::kDouble) - before[b].to(at::kDouble));
        buffers[b].copy_(before[b]);
      }
    }
    // ((0..7) + (8..11)): complete trees, one for each bit of 12.
    const std::function<at::Tensor(const std::vector<at::Tensor>&, int, int)> sum =
        [&](const std::vector<at::Tensor>& x, int first, int count) -> at::Tensor {
      if (count == 1) return x[static_cast<std::size_t>(first)];
      return sum(x, first, count / 2) + sum(x, first + count / 2, count / 2);
    };
    const auto total = [&](const std::vector<at::Tensor>& x) {
      return sum(x, 0, 8) + sum(x, 8, 4);
    };
    const at::NoGradGuard no_grad;
    double squares = 0;
    for (std::size_t p = 0; p < parameters.size(); ++p) {
      if (!parameters[p].requires_grad()) continue;
      const at::Tensor mean = total(gradients[p]) / kVirtualWorkers;
      squares += mean.to(at::kDouble).square().sum().item<double>();
      parameters[p].sub_(mean * kLr);
    }
    for (std::size_t b = 0; b < buffers.size(); ++b) {
      const at::Tensor now = before[b].to(at::kDouble) + total(changes[b]) / kVirtualWorkers;
      buffers[b].copy_(buffers[b].is_floating_point() ? now : now.round());
    }
    std::vector<at::Tensor> loss_tensors;
    for (const double loss : losses) loss_tensors.push_back(at::scalar_tensor(loss, at::kDouble));
    outcome.losses.push_back((total(loss_tensors) / kVirtualWorkers).item<double>());
    if (step % 2 == 1) outcome.norms.push_back(std::sqrt(squares));
  }
  outcome.state = state_of(net);
  return outcome;
}

class StrategyConformance : public ::testing::TestWithParam<std::tuple<std::string, int>> {};

TEST_P(StrategyConformance, GivesTheBitsOfOneProcessWithoutAStrategy) {
  const auto [name, ranks] = GetParam();
  const Outcome expected = reference();
  const Outcome actual = train_on(name, ranks);
  ASSERT_EQ(actual.state.size(), expected.state.size());
  for (std::size_t i = 0; i < expected.state.size(); ++i) {
    EXPECT_TRUE(actual.state[i].second.equal(expected.state[i].second)) << expected.state[i].first;
  }
  EXPECT_EQ(actual.losses, expected.losses);
  ASSERT_EQ(actual.norms.size(), expected.norms.size());
  for (std::size_t i = 0; i < expected.norms.size(); ++i) {
    EXPECT_NEAR(actual.norms[i] / expected.norms[i], 1, 1e-12);
  }
  EXPECT_EQ(actual.norms, train_on(name, 1).norms);
}

TEST_P(StrategyConformance, GivesTheSameBitsForEachAssignmentOfVirtualWorkers) {
  const auto [name, ranks] = GetParam();
  std::vector<double> shares(static_cast<std::size_t>(ranks), 1);
  shares.back() = 3.5;
  const Outcome even = train_on(name, ranks);
  const Outcome uneven = train_on(name, ranks, shares);
  for (std::size_t i = 0; i < even.state.size(); ++i) {
    EXPECT_TRUE(uneven.state[i].second.equal(even.state[i].second)) << even.state[i].first;
  }
  EXPECT_EQ(uneven.losses, even.losses);
  EXPECT_EQ(uneven.norms, even.norms);
}

TEST_P(StrategyConformance, AssignsVirtualWorkersInProportionToShares) {
  const auto [name, ranks] = GetParam();
  test::run_ranks(ranks, [&, name = name](Communicator& world) {
    std::vector<double> shares(static_cast<std::size_t>(world.size()), 1);
    shares[0] = 100;
    torch::nn::Linear model(2, 1);
    const auto strategy =
        strategy_named(name, world, {.virtual_workers = kVirtualWorkers, .shares = shares});
    strategy->attach(*model);
    const int others = world.size() - 1;
    EXPECT_EQ(strategy->virtual_workers().size(), world.rank() > 0 ? 1 : kVirtualWorkers - others);
    for (const std::vector<double>& bad :
         {std::vector<double>(static_cast<std::size_t>(world.size() + 1), 1.0),
          std::vector<double>(static_cast<std::size_t>(world.size()), 0.0)}) {
      const auto make = [&] {
        return strategy_named(name, world, {.virtual_workers = kVirtualWorkers, .shares = bad})
            ->attach(*model);
      };
      EXPECT_THROW(make(), UsageError);
    }
  });
}

TEST_P(StrategyConformance, VirtualWorkersWithoutSamplesAddNothing) {
  const auto [name, ranks] = GetParam();
  test::run_ranks(ranks, [&, name = name](Communicator& world) {
    torch::nn::Linear model(2, 1);
    const auto strategy = strategy_named(name, world, {.virtual_workers = kVirtualWorkers});
    const auto shards = strategy->attach(*model);
    const Range mine = strategy->virtual_workers();
    // Only virtual worker 0 has a sample.
    strategy->begin({.passes = mine.contains(0) ? 1 : 0});
    double loss = 0;
    if (mine.contains(0)) {
      const at::Tensor sum = model->forward(at::tensor({3.f, 4.f}).view({1, 2})).sum();
      strategy->backward(sum);
      loss = sum.item<double>();
    }
    world.all_reduce(buffer_of(std::span(&loss, 1))).wait();
    EXPECT_EQ(strategy->reduce_gradients().loss, loss / kVirtualWorkers);
    for (Shard& shard : shards) EXPECT_TRUE(shard.has_gradient);
    EXPECT_NEAR(strategy->gradient_norm(), std::sqrt(26.0) / kVirtualWorkers, 1e-7);
    Sgd sgd(shards);
    EXPECT_FALSE(strategy->update(sgd).stop);
  });
}

// Sums of losses over micro-batches of unequal size, divided once by the samples of the step.
TEST_P(StrategyConformance, DividesOnceByTheWeightOfTheStep) {
  const auto [name, ranks] = GetParam();
  const auto samples_of = [](std::int64_t worker) { return 1 + worker % 4; };
  std::int64_t samples = 0;
  for (int worker = 0; worker < kVirtualWorkers; ++worker) samples += samples_of(worker);
  const auto sum_of = [&](torch::nn::Linear& model, std::int64_t worker) {
    const auto seed = static_cast<std::uint64_t>(worker);
    return (model->forward(random_tensor({samples_of(worker), 3}, seed)) - 1).square().sum();
  };
  // The oracle: one process, f64 but for the rounding of each virtual worker's gradient.
  torch::nn::Linear plain(3, 2);
  {
    const at::NoGradGuard no_grad;
    for (at::Tensor& p : plain->parameters()) p.copy_(random_tensor(p.sizes(), 77));
  }
  at::Tensor expected = at::zeros({2, 3}, at::kDouble);
  double expected_loss = 0;
  for (int worker = 0; worker < kVirtualWorkers; ++worker) {
    plain->zero_grad();
    const at::Tensor loss = sum_of(plain, worker);
    loss.backward();
    expected += plain->weight.grad().to(at::kDouble) / samples;
    expected_loss += loss.item<double>() / static_cast<double>(samples);
  }
  test::run_ranks(ranks, [&, name = name](Communicator& world) {
    torch::nn::Linear model(3, 2);
    {
      const at::NoGradGuard no_grad;
      for (at::Tensor& p : model->parameters()) p.copy_(random_tensor(p.sizes(), 77));
    }
    const at::Tensor before = model->weight.detach().clone();
    const auto strategy = strategy_named(name, world, {.virtual_workers = kVirtualWorkers});
    Sgd sgd(strategy->attach(*model), {.lr = 1});
    strategy->begin({.weight = static_cast<double>(samples)});
    const Range mine = strategy->virtual_workers();
    for (std::int64_t w = mine.begin; w < mine.end; ++w) strategy->backward(sum_of(model, w));
    EXPECT_NEAR(strategy->reduce_gradients().loss, expected_loss, 1e-5);
    strategy->update(sgd);
    const at::Tensor step = (before - model->weight.detach()).to(at::kDouble);
    EXPECT_TRUE(step.allclose(expected, 1e-5, 1e-5)) << step << expected;
    world.barrier();  // host_shared: the parameters lie in the memory of rank 0
  });
}

TEST_P(StrategyConformance, AStopThatOneRankRequestsIsSeenByAllForOneStep) {
  const auto [name, ranks] = GetParam();
  test::run_ranks(ranks, [&, name = name](Communicator& world) {
    torch::nn::Linear model(2, 1);
    const auto strategy = strategy_named(name, world);
    Sgd sgd(strategy->attach(*model));
    for (const bool stop : {false, true, false}) {
      strategy->begin({.request_stop = stop && world.rank() == world.size() - 1});
      strategy->backward(model->forward(at::ones({1, 2})).sum());
      strategy->reduce_gradients();
      EXPECT_EQ(strategy->update(sgd).stop, stop);
    }
  });
}

TEST_P(StrategyConformance, AnUnusedParameterHasNoGradient) {
  const auto [name, ranks] = GetParam();
  test::run_ranks(ranks, [&, name = name](Communicator& world) {
    Net net;
    const auto strategy = strategy_named(name, world, {.virtual_workers = kVirtualWorkers});
    const auto shards = strategy->attach(net);
    strategy->begin();
    const Range mine = strategy->virtual_workers();
    for (std::int64_t w = mine.begin; w < mine.end; ++w) strategy->backward(loss_of(net, 0, w));
    strategy->reduce_gradients();
    for (const Shard& shard : shards) {
      EXPECT_EQ(shard.has_gradient, !shard.name.starts_with("never")) << shard.name;
      EXPECT_FALSE(shard.name.starts_with("frozen"));
    }
  });
}

TEST_P(StrategyConformance, RefusesModelsThatDiffer) {
  const auto [name, ranks] = GetParam();
  if (ranks == 1) return;
  test::run_ranks(ranks, [&, name = name](Communicator& world) {
    torch::nn::Linear model(world.rank() == 1 ? 3 : 2, 1);
    const auto strategy = strategy_named(name, world);
    EXPECT_THROW(strategy->attach(*model), UsageError);
  });
}

INSTANTIATE_TEST_SUITE_P(Ranks, StrategyConformance,
                         testing::Combine(test::kStrategyNames, testing::Values(1, 2, 3, 4, 6)),
                         test::strategy_on_ranks);

TEST(Replicated, LeavesTheMeanInGradSoThatAnyOptimizerWillDo) {
  test::run_ranks(2, [](Communicator& world) {
    torch::nn::Linear model(1, 1);
    const auto strategy = replicated(world);
    strategy->attach(*model);
    torch::optim::SGD sgd(model->parameters(), 0.1);
    const float before = model->weight.item<float>();
    for (int step = 0; step < 2; ++step) {
      strategy->begin();
      strategy->backward(model->forward(at::full({1, 1}, 1.0 + world.rank())).sum());
      strategy->reduce_gradients();
      EXPECT_EQ(model->weight.grad().item<float>(), 1.5f);
      strategy->update(sgd);
    }
    EXPECT_NEAR(model->weight.item<float>(), before - 2 * 0.1 * 1.5, 1e-6);
  });
}

TEST(HostShared, HoldsTheParametersOnce) {
  std::mutex mutex;
  std::vector<const void*> homes;
  std::int64_t elements = 0;
  test::run_ranks(3, [&](Communicator& world) {
    torch::nn::Linear model(500, 100);
    const auto strategy = host_shared(world);
    const auto shards = strategy->attach(*model);
    const std::lock_guard lock(mutex);
    homes.push_back(model->weight.data_ptr());
    for (const Shard& shard : shards) elements += shard.values.count;
  });
  EXPECT_EQ(homes, std::vector<const void*>(3, homes[0]));
  EXPECT_EQ(elements, 500 * 100 + 100);
}

}  // namespace
}  // namespace trireme
