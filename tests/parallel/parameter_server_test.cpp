#include "trireme/parallel/parameter_server.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/nn/functional/loss.h>
#include <torch/nn/modules/linear.h>

#include <atomic>
#include <chrono>
#include <cmath>
#include <functional>
#include <thread>

#include "tests/comm/ranks.h"
#include "tests/parallel/small_net.h"
#include "trireme/base/error.h"
#include "trireme/base/partition.h"
#include "trireme/optim/adam.h"
#include "trireme/optim/sgd.h"
#include "trireme/parallel/relaxed_consistency.h"
#include "trireme/parallel/replicated.h"
#include "trireme/server/embedded/embedded.h"

namespace trireme {
namespace {

using test::SmallNet;
using Mode = server::Consistency::Mode;

struct Case {
  const char* name;
  server::Consistency consistency;
  int group_size = 1;
};

ClientFactory embedded_servers() {
  return [](Communicator& workers) { return server::embedded(workers); };
}

class AsynchronousRanks : public testing::TestWithParam<std::tuple<Case, int>> {
 protected:
  static Case mode() { return std::get<0>(GetParam()); }
  static int ranks() { return std::get<1>(GetParam()); }

  static int groups() { return (ranks() + mode().group_size - 1) / mode().group_size; }

  static std::unique_ptr<Strategy> strategy(Communicator& world, StrategyOptions options = {}) {
    return parameter_server(
        world, embedded_servers(),
        {.world = options, .consistency = mode().consistency, .group_size = mode().group_size});
  }
};

Sync sync_after(std::int64_t step, std::int64_t steps) {
  return step + 1 >= steps ? Sync::kNow : Sync::kWhenDue;
}

// y = 2 x0 - 3 x1 + 0.5, without noise: the least squares are exact.
struct Line {
  static at::Tensor inputs(std::int64_t rank, int step) {
    return at::tensor({static_cast<float>((rank * 7 + step * 3) % 5) - 2,
                       static_cast<float>((rank * 5 + step) % 7) - 3, 1.0F, -1.0F})
        .view({2, 2});
  }
  static at::Tensor targets(const at::Tensor& x) {
    return (x.select(1, 0) * 2 - x.select(1, 1) * 3 + 0.5).unsqueeze(1);
  }
};

TEST_P(AsynchronousRanks, LearnALineExactly) {
  test::run_ranks(ranks(), [](Communicator& world) {
    torch::nn::Linear model(2, 1);
    if (world.rank() > 0) model->weight.data().fill_(99);  // what rank 0 has is what counts
    const auto strategy = AsynchronousRanks::strategy(world);
    Sgd sgd(strategy->attach(*model), {.lr = 0.05});
    EXPECT_TRUE(strategy->relaxed()->asynchronous());
    constexpr int kSteps = 1500;
    for (std::int64_t step = 0; step < kSteps; ++step) {
      strategy->begin();
      const at::Tensor x = Line::inputs(world.rank(), static_cast<int>(step));
      strategy->backward(torch::mse_loss(model->forward(x), Line::targets(x)));
      strategy->reduce_gradients();
      step += strategy->update(sgd, sync_after(step, kSteps)).skipped_steps;
    }
    strategy->relaxed()->synchronize();  // of ranks that have skipped the last step
    if (world.rank() > 0) return;
    EXPECT_NEAR(model->weight[0][0].item<float>(), 2, 1e-3);
    EXPECT_NEAR(model->weight[0][1].item<float>(), -3, 1e-3);
    EXPECT_NEAR(model->bias[0].item<float>(), 0.5, 1e-3);
  });
}

// The gradients are 1, so that the parameters count the pushes.
TEST_P(AsynchronousRanks, EndWithEveryPushOfEveryGroup) {
  if (mode().consistency.backup_workers > 0) return;  // some are dropped
  test::run_ranks(ranks(), [](Communicator& world) {
    torch::nn::Linear model(torch::nn::LinearOptions(40, 1).bias(false));
    model->weight.data().zero_();
    // Each group has as many virtual workers, so that all weigh 1 to the bit.
    StrategyOptions options{.virtual_workers = groups() * mode().group_size};
    options.shares.assign(static_cast<std::size_t>(world.size()), 1);
    options.shares.back() += options.virtual_workers - world.size();
    const auto strategy = AsynchronousRanks::strategy(world, options);
    Sgd sgd(strategy->attach(*model), {.lr = 1});
    constexpr int kSteps = 30;
    for (int step = 0; step < kSteps; ++step) {
      strategy->begin();
      for (std::int64_t pass = 0; pass < strategy->virtual_workers().size(); ++pass) {
        strategy->backward(model->forward(at::ones({1, 40})).sum());
      }
      strategy->reduce_gradients();
      EXPECT_FLOAT_EQ(strategy->gradient_norm(), std::sqrt(40.0));
      strategy->update(sgd, sync_after(step, kSteps));
    }
    if (world.rank() > 0) return;
    EXPECT_TRUE(model->weight.equal(at::full({1, 40}, -kSteps * groups()))) << model->weight;
  });
}

// What a step moves the parameters by is the mean over the virtual workers, once for each group,
// however they are dealt out.
TEST_P(AsynchronousRanks, CountByTheirVirtualWorkers) {
  if (mode().consistency.backup_workers > 0) return;  // some are dropped
  test::run_ranks(ranks(), [](Communicator& world) {
    constexpr int kWorkers = 8;
    std::vector<double> shares(static_cast<std::size_t>(world.size()), 1);
    shares[0] = 3;
    torch::nn::Linear model(torch::nn::LinearOptions(3, 1).bias(false));
    model->weight.data().zero_();
    const auto strategy =
        AsynchronousRanks::strategy(world, {.virtual_workers = kWorkers, .shares = shares});
    Sgd sgd(strategy->attach(*model), {.lr = 1});
    constexpr int kSteps = 10;
    for (int step = 0; step < kSteps; ++step) {
      strategy->begin();
      const Range mine = strategy->virtual_workers();
      for (std::int64_t worker = mine.begin; worker < mine.end; ++worker) {
        strategy->backward(model->forward(at::full({1, 3}, static_cast<double>(worker))).sum());
      }
      strategy->reduce_gradients();
      strategy->update(sgd, sync_after(step, kSteps));
    }
    if (world.rank() > 0) return;
    const double mean = (kWorkers - 1) / 2.0;
    EXPECT_TRUE(model->weight.allclose(at::full({1, 3}, -kSteps * groups() * mean)))
        << model->weight;
  });
}

TEST_P(AsynchronousRanks, DoNotWaitForOneThatIsSlow) {
  if (groups() < 2 || ranks() < 3 || mode().consistency.mode == Mode::kBounded) return;
  test::run_ranks(ranks(), [](Communicator& world) {
    torch::nn::Linear model(2, 1);
    const auto strategy = AsynchronousRanks::strategy(world);
    Sgd sgd(strategy->attach(*model), {.lr = 0.01});
    const bool slow = world.rank() == world.size() - 1;
    std::int64_t own_steps = 0;
    constexpr int kSteps = 40;
    for (std::int64_t step = 0; step < kSteps; ++step) {
      if (slow) std::this_thread::sleep_for(std::chrono::milliseconds(20));
      strategy->begin();
      strategy->backward(model->forward(at::ones({1, 2})).sum());
      strategy->reduce_gradients();
      ++own_steps;
      step += strategy->update(sgd, sync_after(step, kSteps)).skipped_steps;
    }
    strategy->relaxed()->synchronize();  // of ranks that have skipped the last step
    // With backup workers the slow one leaves out what the others did without it.
    if (mode().consistency.backup_workers > 0 && slow) {
      EXPECT_LT(own_steps, kSteps);
    } else if (mode().consistency.mode == Mode::kAsynchronous) {
      EXPECT_EQ(own_steps, kSteps);
    }
  });
}

std::string name_of_case(const testing::TestParamInfo<AsynchronousRanks::ParamType>& info) {
  return std::string(std::get<0>(info.param).name) + std::to_string(std::get<1>(info.param));
}

constexpr server::Consistency kAsynchronous{.mode = Mode::kAsynchronous};
constexpr server::Consistency kOneBackup{.mode = Mode::kSynchronous, .backup_workers = 1};

INSTANTIATE_TEST_SUITE_P(
    Ranks, AsynchronousRanks,
    testing::Combine(testing::Values(Case{"Asynchronous", kAsynchronous},
                                     Case{"Bounded", {.mode = Mode::kBounded, .staleness = 2}},
                                     Case{"Backup", kOneBackup}),
                     testing::Values(2, 3, 4)),
    name_of_case);

INSTANTIATE_TEST_SUITE_P(
    Pairs, AsynchronousRanks,
    testing::Combine(testing::Values(Case{"Asynchronous", kAsynchronous, 2},
                                     Case{"Bounded", {.mode = Mode::kBounded}, 2}),
                     testing::Values(2, 3, 4)),
    name_of_case);

INSTANTIATE_TEST_SUITE_P(PairsWithABackup, AsynchronousRanks,
                         testing::Combine(testing::Values(Case{"Backup", kOneBackup, 2}),
                                          testing::Values(3, 4)),
                         name_of_case);

constexpr int kVirtualWorkers = 6;  // on 4 ranks some have two and some one

at::Tensor loss_of(SmallNet& net, int step, std::int64_t worker) {
  const auto number = static_cast<double>(step * kVirtualWorkers + worker);
  const at::Tensor x = at::arange(20, at::kFloat).add(number).sin().view({4, 5});
  return torch::mse_loss(net.forward(x), x.sum(1, true));
}

struct Outcome {
  std::vector<at::Tensor> tensors;  // after each step
  std::vector<double> losses, norms;
};

// The last step synchronizes the ranks.
Outcome train(Strategy& strategy, SmallNet& net, Optimizer& optimizer, int steps) {
  Outcome outcome;
  const Range mine = strategy.virtual_workers();
  for (int step = 0; step < steps; ++step) {
    strategy.begin();
    for (std::int64_t worker = mine.begin; worker < mine.end; ++worker) {
      strategy.backward(loss_of(net, step, worker));
    }
    outcome.losses.push_back(strategy.reduce_gradients().loss);
    outcome.norms.push_back(strategy.gradient_norm());
    strategy.update(optimizer, sync_after(step, steps));
    for (const at::Tensor& tensor : net.parameters()) {
      outcome.tensors.push_back(tensor.detach().clone());
    }
    for (const at::Tensor& tensor : net.buffers()) outcome.tensors.push_back(tensor.clone());
  }
  return outcome;
}

void expect_same_bits(const std::vector<at::Tensor>& actual,
                      const std::vector<at::Tensor>& expected) {
  ASSERT_EQ(actual.size(), expected.size());
  for (std::size_t i = 0; i < actual.size(); ++i) {
    EXPECT_TRUE(actual[i].equal(expected[i])) << i << ": " << actual[i] << expected[i];
  }
}

class GroupsOfRanks : public testing::TestWithParam<int> {};

TEST_P(GroupsOfRanks, OneOfAllRanksHasTheBitsOfReplicated) {
  constexpr int kSteps = 8;
  const server::Consistency modes[] = {kAsynchronous, {.mode = Mode::kBounded}};
  for (const server::Consistency& mode : modes) {
    // The third sends every value, as f32.
    for (const auto& [group_size, codec] :
         {std::pair(0, "none"), std::pair(GetParam(), "none"), std::pair(7, "top_k")}) {
      test::run_ranks(GetParam(), [&, group_size = group_size, codec = codec](Communicator& world) {
        const StrategyOptions plain{.virtual_workers = kVirtualWorkers};
        StrategyOptions options = plain;
        options.compression = {.codec = codec, .ratio = 1};
        SmallNet expected_net, net;
        const auto expected = replicated(world, plain);
        Adam expected_adam(expected->attach(expected_net), {.lr = 0.05});
        const auto strategy = parameter_server(world, embedded_servers(),
                                               {.world = options,
                                                .optimizer = {"adam"},
                                                .consistency = mode,
                                                .group_size = group_size});
        if (world.rank() > 0) net.first->weight.data().fill_(99);  // attach() must repair this
        Adam adam(strategy->attach(net), {.lr = 0.05});
        const Outcome wanted = train(*expected, expected_net, expected_adam, kSteps);
        const Outcome got = train(*strategy, net, adam, kSteps);
        expect_same_bits(got.tensors, wanted.tensors);
        EXPECT_EQ(got.losses, wanted.losses);
        EXPECT_EQ(got.norms, wanted.norms);
      });
    }
  }
}

TEST_P(GroupsOfRanks, HaveTheSameBitsInsideAfterEachStep) {
  for (const int group_size : {2, 3}) {
    std::vector<Outcome> outcomes(static_cast<std::size_t>(GetParam()));
    test::run_ranks(GetParam(), [&](Communicator& world) {
      SmallNet net;
      const auto strategy = parameter_server(
          world, embedded_servers(),
          {.world = {.virtual_workers = kVirtualWorkers}, .group_size = group_size});
      Sgd sgd(strategy->attach(net), {.lr = 0.05});
      outcomes[static_cast<std::size_t>(world.rank())] = train(*strategy, net, sgd, 20);
    });
    for (int rank = 0; rank < GetParam(); ++rank) {
      const Outcome& first = outcomes[static_cast<std::size_t>(rank / group_size * group_size)];
      const Outcome& mine = outcomes[static_cast<std::size_t>(rank)];
      expect_same_bits(mine.tensors, first.tensors);
      EXPECT_EQ(mine.losses, first.losses);
      EXPECT_EQ(mine.norms, first.norms);
    }
  }
}

// Virtual worker v has gradients of v + 1. A group counts as its virtual workers do, so that
// together the groups move the parameters by the mean over all of them, once for each group.
TEST_P(GroupsOfRanks, PushTheMeanOverTheirVirtualWorkersOnceAStep) {
  constexpr int kSteps = 12;
  for (const int group_size : {1, 2, 3, 4}) {
    std::atomic<int> clients = 0;
    test::run_ranks(GetParam(), [&](Communicator& world) {
      torch::nn::Linear model(torch::nn::LinearOptions(8, 1).bias(false));
      model->to(at::kDouble);
      model->weight.data().zero_();
      double own_mean = 0;
      int groups = 0;
      for (int first = 0; first < world.size(); first += group_size, ++groups) {
        const int last = std::min(first + group_size, world.size()) - 1;
        const auto begin = partition(kVirtualWorkers, world.size(), first).begin;
        const auto end = partition(kVirtualWorkers, world.size(), last).end;
        if (first <= world.rank() && world.rank() <= last) {
          own_mean = static_cast<double>(begin + 1 + end) / 2;
        }
      }
      const auto strategy = parameter_server(
          world,
          [&](Communicator& workers) {
            ++clients;
            EXPECT_EQ(workers.size(), groups);
            return server::embedded(workers);
          },
          {.world = {.virtual_workers = kVirtualWorkers}, .group_size = group_size});
      Sgd sgd(strategy->attach(*model), {.lr = 1});
      const Range mine = strategy->virtual_workers();
      for (int step = 0; step < kSteps; ++step) {
        strategy->begin();
        for (std::int64_t worker = mine.begin; worker < mine.end; ++worker) {
          // A gradient of worker + 1 and a loss of worker + 1, whatever the weight is.
          const at::Tensor y =
              model->forward(at::full({1, 8}, static_cast<double>(worker + 1), at::kDouble));
          strategy->backward((y - y.detach() + static_cast<double>(worker + 1)).sum());
        }
        EXPECT_DOUBLE_EQ(strategy->reduce_gradients().loss, own_mean);
        EXPECT_NEAR(strategy->gradient_norm(), own_mean * std::sqrt(8.0), 1e-12);
        strategy->update(sgd, sync_after(step, kSteps));
      }
      if (world.rank() > 0) return;
      EXPECT_EQ(clients, groups);
      const double moved = kSteps * groups * (kVirtualWorkers + 1) / 2.0;
      EXPECT_TRUE(model->weight.allclose(at::full({1, 8}, -moved, at::kDouble), 1e-12, 0))
          << model->weight;
    });
  }
}

StepResult take_step(Strategy& strategy, torch::nn::Linear& model, Optimizer& optimizer, Sync sync,
                     bool request_stop = false) {
  strategy.begin({.request_stop = request_stop});
  strategy.backward(model->forward(at::ones({1, 2})).sum());
  strategy.reduce_gradients();
  return strategy.update(optimizer, sync);
}

TEST_P(GroupsOfRanks, SeeTheStopRequestsOfTheirOwnRanksInTheSameStep) {
  test::run_ranks(GetParam(), [](Communicator& world) {
    torch::nn::Linear model(2, 1);
    const auto strategy = parameter_server(world, embedded_servers(), {.group_size = 2});
    Sgd sgd(strategy->attach(*model), {.lr = 0.01});
    // The last rank asks to stop: its group does after that step, the others go on.
    const int last = world.size() - 1;
    std::vector<int> seen;
    for (int step = 0; step < 6 && seen.empty(); ++step) {
      const bool request_stop = world.rank() == last && step == 2;
      if (take_step(*strategy, model, sgd, sync_after(step, 6), request_stop).stop) {
        seen.push_back(step);
      }
    }
    const bool same_group = world.rank() / 2 == last / 2;
    EXPECT_EQ(seen, same_group ? std::vector<int>{2} : std::vector<int>{});
  });
}

INSTANTIATE_TEST_SUITE_P(Ranks, GroupsOfRanks, testing::Values(1, 2, 3, 4),
                         testing::PrintToStringParamName());

// How the ranks end of which one throws in its third step.
std::vector<std::string> ends_where_one_fails(int failing, const server::Consistency& mode) {
  std::vector<std::string> ends(4);
  test::run_ranks(4, [&](Communicator& world) {
    std::string& end = ends[static_cast<std::size_t>(world.rank())];
    try {
      torch::nn::Linear model(2, 1);
      const auto strategy =
          parameter_server(world, embedded_servers(), {.consistency = mode, .group_size = 2});
      Sgd sgd(strategy->attach(*model), {.lr = 0.01});
      constexpr int kSteps = 60;
      for (int step = 0; step < kSteps; ++step) {
        if (world.rank() == failing && step == 3) throw DataError("no more data");
        take_step(*strategy, model, sgd, sync_after(step, kSteps));
      }
      end = "done";
    } catch (const CommError&) {
      end = "victim";
    } catch (const DataError&) {
      end = "failed";
    }
  });
  return ends;
}

TEST(GroupsOfRanks, EndWithAnyOfTheirRanksAndTheOthersContinue) {
  const server::Consistency modes[] = {
      kAsynchronous, {.mode = Mode::kBounded, .staleness = 1}, kOneBackup};
  for (const server::Consistency& mode : modes) {
    EXPECT_THAT(ends_where_one_fails(2, mode),
                testing::ElementsAre("done", "done", "failed", "victim"));
    EXPECT_THAT(ends_where_one_fails(3, mode),
                testing::ElementsAre("done", "done", "victim", "failed"));
  }
}

TEST(GroupsOfRanks, EndWithTheRanksOfTheFirstGroup) {
  EXPECT_THAT(ends_where_one_fails(1, {.mode = Mode::kBounded}),
              testing::ElementsAre("victim", "failed", "victim", "victim"));
}

std::string refusal(const std::function<void(const test::RankFunction&)>& on_ranks,
                    ParameterServerOptions options) {
  std::string why;
  try {
    on_ranks([&](Communicator& world) {
      torch::nn::Linear model(2, 1);
      parameter_server(world, embedded_servers(), options)->attach(*model);
    });
  } catch (const UsageError& error) {
    why = error.what();
  }
  return why;
}

TEST(GroupsOfRanks, RefuseWhatCannotBe) {
  const auto on_four = [](const test::RankFunction& body) { test::run_ranks(4, body); };
  EXPECT_THAT(refusal(on_four, {.group_size = -1}),
              testing::HasSubstr("group_size must not be negative, got -1"));
  for (const int group_size : {0, 2}) {
    EXPECT_THAT(
        refusal(on_four, {.consistency = {.mode = Mode::kSynchronous}, .group_size = group_size}),
        testing::HasSubstr("but all ranks are synchronous"));
  }
  EXPECT_THAT(refusal(on_four, {.consistency = {.mode = Mode::kSynchronous, .backup_workers = 2},
                                .group_size = 2}),
              testing::HasSubstr("must leave one of the 2 workers"));
  // Servers in rank 0's memory, which the other group's first rank does not see.
  EXPECT_THAT(refusal(
                  [](const test::RankFunction& body) {
                    test::run_ranks_on_hosts(
                        4, [](int rank) { return rank / 2; }, body);
                  },
                  {.group_size = 0}),
              testing::HasSubstr("does not share memory"));
}

}  // namespace
}  // namespace trireme
