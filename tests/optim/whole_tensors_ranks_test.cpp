// LAMB and Muon in the strategies whose ranks or servers update whole tensors.
#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/nn/functional/loss.h>
#include <torch/nn/modules/linear.h>

#include <functional>
#include <map>

#include "tests/comm/message_of.h"
#include "tests/comm/ranks.h"
#include "tests/tensor/random_tensor.h"
#include "trireme/base/error.h"
#include "trireme/optim/make_optimizer.h"
#include "trireme/parallel/host_shared.h"
#include "trireme/parallel/local_steps.h"
#include "trireme/parallel/parameter_server.h"
#include "trireme/parallel/relaxed_consistency.h"
#include "trireme/parallel/replicated.h"
#include "trireme/server/embedded/embedded.h"

namespace trireme {
namespace {

using test::random_tensor;

constexpr int kVirtualWorkers = 6;

struct Net : torch::nn::Module {
  Net() {
    body = register_module("body", torch::nn::Linear(100, 200));
    head = register_module("head", torch::nn::Linear(200, 1));
    const at::NoGradGuard no_grad;
    std::uint64_t seed = 1;
    for (at::Tensor& p : parameters()) {
      p.copy_(random_tensor(p.sizes(), seed++, at::kFloat).mul_(0.2));
    }
  }

  at::Tensor loss(int step, std::int64_t worker) {
    const auto seed = static_cast<std::uint64_t>(1000 + step * 100 + worker);
    const at::Tensor x = random_tensor({5, 100}, seed, at::kFloat);
    const at::Tensor y = random_tensor({5, 1}, seed + 50000, at::kFloat);
    return torch::mse_loss(head(body(x).tanh()), y);
  }

  torch::nn::Linear body{nullptr}, head{nullptr};
};

using Values = std::map<std::string, at::Tensor>;
using MakeStrategy = std::function<std::unique_ptr<Strategy>(Communicator& world,
                                                             const OptimizerOptions& optimizer)>;

const StrategyOptions kOptions{.virtual_workers = kVirtualWorkers};

std::unique_ptr<Strategy> servers(Communicator& world, const OptimizerOptions& optimizer) {
  return parameter_server(
      world, [](Communicator& workers) { return server::embedded(workers, {.shards = 2}); },
      {.world = kOptions,
       .optimizer = optimizer,
       .consistency = {.mode = server::Consistency::Mode::kSynchronous}});
}

// The parameters and the state of the optimizer after four steps.
Values train(const std::string& name, const MakeStrategy& make, int ranks) {
  Values result;
  test::run_ranks(ranks, [&](Communicator& world) {
    Net net;
    OptimizerOptions options{.name = name, .lr = 0.02, .weight_decay = 0.1};
    options.groups = {{.kind = "bias", .weight_decay = 0}};
    const auto strategy = make(world, options);
    const auto optimizer = make_optimizer(options, strategy->attach(net));
    const Range mine = strategy->virtual_workers();
    for (int step = 0; step < 4; ++step) {
      strategy->begin();
      for (std::int64_t worker = mine.begin; worker < mine.end; ++worker) {
        strategy->backward(net.loss(step, worker));
      }
      strategy->reduce_gradients();
      strategy->update(*optimizer, step == 3 ? Sync::kNow : Sync::kWhenDue);
    }
    if (strategy->relaxed() != nullptr) strategy->relaxed()->gather_state(*optimizer);
    if (world.rank() == 0) {
      for (const auto& item : net.named_parameters()) {
        result[item.key()] = item.value().detach().clone();
      }
      for (const StateTensor& tensor : optimizer->state()) {
        const auto type = tensor.values.dtype == DType::kI64 ? at::kLong : at::kFloat;
        result[tensor.name] =
            at::from_blob(tensor.values.data, {tensor.values.count}, type).clone();
      }
    }
    world.barrier();
  });
  return result;
}

class WholeTensorsOnRanks : public testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(Of, WholeTensorsOnRanks, testing::Values("lamb", "muon"));

TEST_P(WholeTensorsOnRanks, HaveTheSameBitsOnAnyNumberOfRanksAndServers) {
  const MakeStrategy whole = [](Communicator& world, const OptimizerOptions&) {
    return replicated(world, kOptions);
  };
  const Values wanted = train(GetParam(), whole, 1);
  EXPECT_EQ(wanted.contains("body.weight.momentum_buffer"), GetParam() == std::string("muon"));
  const MakeStrategy alone = [](Communicator& world, const OptimizerOptions&) {
    return host_shared(world, kOptions);
  };
  const auto expect_wanted = [&](const MakeStrategy& make, int ranks) {
    const Values got = train(GetParam(), make, ranks);
    ASSERT_EQ(got.size(), wanted.size());
    for (const auto& [parameter, values] : got) {
      EXPECT_TRUE(values.equal(wanted.at(parameter))) << parameter << ", " << ranks << " ranks";
    }
  };
  for (const int ranks : {2, 3}) expect_wanted(whole, ranks);
  for (const int ranks : {1, 3}) expect_wanted(servers, ranks);
  expect_wanted(alone, 1);
}

TEST_P(WholeTensorsOnRanks, AreWhatLocalStepsHave) {
  const MakeStrategy groups = [](Communicator& world, const OptimizerOptions&) {
    return local_steps(world, {.world = kOptions, .group_size = 1, .steps = 2});
  };
  const Values got = train(GetParam(), groups, 3);
  EXPECT_FALSE(got.at("body.weight").equal(Net().body->weight));
}

TEST_P(WholeTensorsOnRanks, AreNotWhatHostSharedHas) {
  test::run_ranks(2, [&](Communicator& world) {
    Net net;
    const auto strategy = host_shared(world, kOptions);
    const auto shards = strategy->attach(net);
    // body.weight has five of the eight blocks, so that each rank has some of it.
    EXPECT_THAT(test::message_of<UsageError>([&] { make_optimizer({.name = GetParam()}, shards); }),
                testing::HasSubstr("body.weight must be a whole parameter"));
    world.barrier();
  });
}

}  // namespace
}  // namespace trireme
