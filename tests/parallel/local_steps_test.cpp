#include "trireme/parallel/local_steps.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/nn/functional/loss.h>
#include <torch/nn/modules/linear.h>
#include <torch/optim/sgd.h>

#include <cmath>
#include <cstring>
#include <map>
#include <mutex>

#include "tests/comm/ranks.h"
#include "tests/parallel/local_steps_simulation.h"
#include "trireme/base/error.h"
#include "trireme/optim/sgd.h"
#include "trireme/parallel/relaxed_consistency.h"
#include "trireme/parallel/replicated.h"
#include "trireme/tensor/named_tensors.h"

namespace trireme {
namespace {

using test::flat;
using test::kLr;
using test::kMomentum;
using test::kVirtualWorkers;
using test::loss_of;
using test::random_tensor;
using test::Simulation;
using test::SmallNet;
using test::Values;

// The result of a run on one rank.
struct Outcome {
  Values parameters;
  Values buffers;
  std::vector<double> losses;
  std::vector<bool> synchronized;
};

// A user's training loop; the last step synchronizes the ranks, the others as `sync` says.
Outcome train(Strategy& strategy, SmallNet& net, std::int64_t first, std::int64_t last,
              Optimizer& optimizer, Sync sync = Sync::kWhenDue) {
  Outcome outcome;
  const Range mine = strategy.virtual_workers();
  for (std::int64_t step = first; step < last; ++step) {
    strategy.begin();
    for (std::int64_t worker = mine.begin; worker < mine.end; ++worker) {
      strategy.backward(loss_of(net, step, worker));
    }
    strategy.reduce_gradients();
    const StepResult result = strategy.update(optimizer, step + 1 == last ? Sync::kNow : sync);
    outcome.losses.push_back(result.loss);
    outcome.synchronized.push_back(result.synchronized);
  }
  outcome.parameters = flat(net.parameters());
  outcome.buffers = flat(net.buffers());
  return outcome;
}

// Returns the outcome of every rank.
std::vector<Outcome> train_on(int ranks, const LocalStepsOptions& options, std::int64_t steps,
                              Sync sync = Sync::kWhenDue) {
  std::vector<Outcome> outcomes(static_cast<std::size_t>(ranks));
  test::run_ranks(ranks, [&](Communicator& world) {
    SmallNet net(at::kDouble);
    if (world.rank() > 0) net.first->weight.data().fill_(99);  // attach() must repair this
    const auto strategy = local_steps(world, options);
    Sgd optimizer(strategy->attach(net), {.lr = kLr, .momentum = kMomentum});
    outcomes[static_cast<std::size_t>(world.rank())] =
        train(*strategy, net, 0, steps, optimizer, sync);
  });
  return outcomes;
}

void expect_near(const Values& actual, const Values& expected, double tolerance) {
  ASSERT_EQ(actual.size(), expected.size());
  for (std::size_t i = 0; i < actual.size(); ++i) {
    EXPECT_NEAR(actual[i], expected[i], tolerance) << i;
  }
}

struct Form {
  std::string name;
  LocalStepsOptions options;
};

LocalStepsOptions with(LocalStepsOptions options) {
  options.world.virtual_workers = kVirtualWorkers;
  return options;
}

LocalStepsOptions diloco(int steps) {
  return with({.steps = steps, .outer_lr = 0.7, .outer_momentum = 0.9});
}

std::vector<Form> forms() {
  LocalStepsOptions pieces = diloco(6), late = diloco(6), replaced = diloco(4), all = diloco(5);
  pieces.fragments = 3;
  late.delay = 2;
  replaced.delay = 1;
  replaced.mix = 0;
  all.fragments = 2;
  all.delay = 3;
  all.mix = 0.3;
  LocalStepsOptions average_late = with({.steps = 4, .fragments = 2, .delay = 1});
  return {{"local_sgd", with({.steps = 4})},
          {"outer_lr", with({.steps = 4, .outer_lr = 0.5})},
          {"diloco", diloco(4)},
          {"fragments", pieces},
          {"delay", late},
          {"delay_without_mix", replaced},
          {"fragments_and_delay", all},
          {"late_averages", average_late}};
}

class LocalStepsForms : public ::testing::TestWithParam<std::tuple<std::size_t, int, int>> {};

TEST_P(LocalStepsForms, GiveTheNumbersOfGroupsSimulatedOneAfterAnother) {
  const auto [form, ranks, group_size] = GetParam();
  LocalStepsOptions options = forms()[form].options;
  options.group_size = group_size;
  std::vector<double> uneven(static_cast<std::size_t>(ranks), 1);
  uneven[0] = 100;
  // The last step is in turn, under way or out of turn.
  for (const auto& [steps, shares] :
       {std::pair(12, std::vector<double>()), std::pair(14, std::vector<double>()),
        std::pair(19, std::vector<double>()), std::pair(14, uneven)}) {
    options.world.shares = shares;
    Simulation simulation(ranks, options);
    simulation.run(steps);
    const std::vector<Outcome> outcomes = train_on(ranks, options, steps);
    for (int rank = 0; rank < ranks; ++rank) {
      const Outcome& outcome = outcomes[static_cast<std::size_t>(rank)];
      expect_near(outcome.parameters, simulation.parameters(rank), 1e-12);
      expect_near(outcome.buffers, simulation.buffers(rank), 1e-12);
      EXPECT_TRUE(outcome.synchronized.back());
      EXPECT_EQ(outcome.parameters, outcomes[0].parameters) << "rank " << rank;
      EXPECT_EQ(outcome.buffers, outcomes[0].buffers) << "rank " << rank;
      EXPECT_EQ(outcome.losses.back(), outcomes[0].losses.back());
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Each, LocalStepsForms,
                         ::testing::Combine(::testing::Range(std::size_t{0}, forms().size()),
                                            ::testing::Values(1, 2, 3, 4), ::testing::Values(1, 2)),
                         [](const auto& info) {
                           return forms()[std::get<0>(info.param)].name + "_on_" +
                                  std::to_string(std::get<1>(info.param)) + "_in_groups_of_" +
                                  std::to_string(std::get<2>(info.param));
                         });

// y = 3 a - 2 b + 1 exactly, and each rank has its own samples: all have the same minimum.
void expect_to_learn_a_line(int ranks, const LocalStepsOptions& options, double tolerance) {
  test::run_ranks(ranks, [&](Communicator& world) {
    torch::nn::Linear model(2, 1);
    model->to(at::kDouble);
    const auto strategy = local_steps(world, options);
    Sgd optimizer(strategy->attach(*model), {.lr = 0.1});
    const at::Tensor x =
        random_tensor({16, 2}, static_cast<std::uint64_t>(world.rank()), at::kDouble);
    const at::Tensor y = x.matmul(at::tensor({3.0, -2.0}, at::kDouble)).add(1).view({16, 1});
    for (int step = 0; step < 800; ++step) {
      strategy->begin();
      strategy->backward(torch::mse_loss(model->forward(x), y));
      strategy->reduce_gradients();
      strategy->update(optimizer, step == 799 ? Sync::kNow : Sync::kWhenDue);
    }
    expect_near(flat(model->parameters()), {3, -2, 1}, tolerance);
  });
}

class LocalSteps : public ::testing::TestWithParam<int> {};

TEST_P(LocalSteps, OneStepAndTheMeanIsSynchronousTraining) {
  const std::vector<Outcome> outcomes = train_on(GetParam(), with({.steps = 1}), 5);
  test::run_ranks(1, [&](Communicator& world) {
    SmallNet net(at::kDouble);
    const auto strategy = replicated(world, {.virtual_workers = kVirtualWorkers});
    Sgd optimizer(strategy->attach(net), {.lr = kLr, .momentum = kMomentum});
    const Outcome expected = train(*strategy, net, 0, 5, optimizer);
    for (const Outcome& outcome : outcomes) {
      expect_near(outcome.parameters, expected.parameters, 1e-13);
      expect_near(outcome.buffers, expected.buffers, 1e-13);
      expect_near(outcome.losses, expected.losses, 1e-13);
      EXPECT_EQ(outcome.synchronized, std::vector<bool>(5, true));
    }
  });
}

TEST_P(LocalSteps, AloneWithTheMeanIsTrainingWithoutIt) {
  LocalStepsOptions options = with({.steps = 3});
  options.group_size = GetParam();
  const std::vector<Outcome> outcomes = train_on(GetParam(), options, 7);
  test::run_ranks(GetParam(), [&](Communicator& world) {
    SmallNet net(at::kDouble);
    const auto strategy = replicated(world, {.virtual_workers = kVirtualWorkers});
    Sgd optimizer(strategy->attach(net), {.lr = kLr, .momentum = kMomentum});
    const Outcome expected = train(*strategy, net, 0, 7, optimizer);
    const Outcome& actual = outcomes[static_cast<std::size_t>(world.rank())];
    EXPECT_EQ(actual.parameters, expected.parameters);
    EXPECT_EQ(actual.losses, expected.losses);
  });
}

TEST_P(LocalSteps, MixPlaysNoPartWithoutDelay) {
  LocalStepsOptions mixed = diloco(4), not_mixed = diloco(4);
  mixed.mix = 0.5;
  not_mixed.mix = 0;
  EXPECT_EQ(train_on(GetParam(), mixed, 10)[0].parameters,
            train_on(GetParam(), not_mixed, 10)[0].parameters);
}

TEST_P(LocalSteps, ACodecThatLeavesNothingOutChangesNothing) {
  LocalStepsOptions options = diloco(6);
  options.fragments = 2;
  options.delay = 1;
  options.world.compression = {.codec = "top_k", .ratio = 1};
  Simulation simulation(GetParam(), options);
  simulation.run(14);
  // Values are sent as f32.
  expect_near(train_on(GetParam(), options, 14)[0].parameters, simulation.parameters(0), 1e-6);
}

TEST_P(LocalSteps, SendNothingBetweenExchanges) {
  test::run_ranks(GetParam(), [](Communicator& world) {
    constexpr std::int64_t kParameters = 4096;
    std::map<std::string, Traffic> moved;
    for (const std::string codec : {"none", "int8"}) {
      torch::nn::Linear model(torch::nn::LinearOptions(kParameters, 1).bias(false));
      LocalStepsOptions options{.steps = 4};
      options.world.compression.codec = codec;
      const auto strategy = local_steps(world, options);
      Sgd optimizer(strategy->attach(*model));
      for (int step = 1; step <= 9; ++step) {
        const Traffic before = strategy->relaxed()->traffic();
        strategy->begin();
        strategy->backward(model->forward(at::ones({1, kParameters})).sum());
        strategy->reduce_gradients();
        strategy->update(optimizer);
        const Traffic now = strategy->relaxed()->traffic() - before;
        if (step % 4 == 0) {
          EXPECT_EQ(now.sent > 0, world.size() > 1);
          moved[codec] = now;
        } else {
          EXPECT_EQ(now, Traffic());
        }
      }
    }
    EXPECT_GE(moved["none"].sent, (world.size() - 1) * kParameters * 4 / world.size());
    // An int8 and its share of a scale for each f32; gathered, not reduced.
    EXPECT_LE(moved["int8"].sent, (world.size() - 1) * (kParameters * 5 / 4 + 64));
  });
}

TEST_P(LocalSteps, SynchronizeEveryHStepsAndOnRequest) {
  const Outcome outcome = train_on(GetParam(), diloco(3), 8)[0];
  EXPECT_EQ(outcome.synchronized,
            (std::vector<bool>{false, false, true, false, false, true, false, true}));
}

// A step of one virtual worker each, whose parameters do not matter.
StepResult take_step(Strategy& strategy, torch::nn::Linear& model, bool request_stop,
                     Sync sync = Sync::kWhenDue) {
  torch::optim::SGD optimizer(model->parameters(), 0.1);
  strategy.begin({.request_stop = request_stop});
  strategy.backward(model->forward(at::full({1, 2}, 1.0)).sum());
  strategy.reduce_gradients();
  return strategy.update(optimizer, sync);
}

TEST_P(LocalSteps, AStopIsSeenByAllAfterTheNextExchange) {
  test::run_ranks(GetParam(), [](Communicator& world) {
    torch::nn::Linear model(2, 1);
    const auto strategy = local_steps(world, {.steps = 4});
    strategy->attach(*model);
    std::vector<int> seen;
    for (int step = 1; step <= 9; ++step) {
      const StepResult result =
          take_step(*strategy, model, step == 2 && world.rank() == world.size() - 1);
      if (result.stop) seen.push_back(step);
      EXPECT_EQ(result.synchronized, step % 4 == 0);
    }
    EXPECT_THAT(seen, testing::ElementsAre(4));
  });
}

TEST_P(LocalSteps, AStopIsSentWithAFragmentAndSynchronizesAll) {
  test::run_ranks(GetParam(), [](Communicator& world) {
    torch::nn::Linear model(2, 1);
    // Sent at 2, 4, 6, ...; seen one step later.
    const auto strategy = local_steps(world, {.steps = 4, .fragments = 2, .delay = 1});
    strategy->attach(*model);
    std::vector<int> seen, synchronized;
    for (int step = 1; step <= 9; ++step) {
      const StepResult result =
          take_step(*strategy, model, step == 5 && world.rank() == world.size() - 1);
      if (result.stop) seen.push_back(step);
      if (result.synchronized) synchronized.push_back(step);
    }
    EXPECT_THAT(seen, testing::ElementsAre(7));
    EXPECT_THAT(synchronized, testing::ElementsAre(7));
  });
}

TEST_P(LocalSteps, SynchronizeForFreeOnlyIfTheyDoNotDoItByThemselves) {
  test::run_ranks(GetParam(), [](Communicator& world) {
    for (const int fragments : {1, 2}) {
      torch::nn::Linear model(2, 1);
      const auto strategy = local_steps(world, {.steps = 4, .fragments = fragments});
      strategy->attach(*model);
      EXPECT_EQ(take_step(*strategy, model, false, Sync::kIfFree).synchronized, fragments == 2);
      EXPECT_FALSE(take_step(*strategy, model, false).synchronized);
    }
  });
}

// All that a checkpoint has to keep.
std::vector<Buffer> kept_of(std::span<Shard> shards, Optimizer& optimizer, Strategy& strategy,
                            const SmallNet& net) {
  std::vector<Buffer> buffers;
  for (const Shard& shard : shards) buffers.push_back(shard.values);
  for (const StateTensor& state : optimizer.state()) buffers.push_back(state.values);
  for (const Strategy::State& state : strategy.state()) buffers.push_back(state.values);
  for (const at::Tensor& buffer : net.buffers()) buffers.push_back(buffer_of(buffer));
  return buffers;
}

TEST_P(LocalSteps, ContinueWithTheSameBitsFromTheirState) {
  std::vector<Form> all = forms();
  for (const char* codec : {"int8", "power_sgd", "random_k"}) {
    all.push_back({codec, diloco(6)});
    all.back().options.fragments = 2;
    all.back().options.world.compression = {.codec = codec, .ratio = 0.2};
  }
  for (const Form& form : all) {
    LocalStepsOptions options = form.options;
    options.group_size = 2;
    test::run_ranks(GetParam(), [&](Communicator& world) {
      constexpr int kHalf = 7, kAll = 20;
      SmallNet net(at::kDouble);
      const auto strategy = local_steps(world, options);
      const auto shards = strategy->attach(net);
      Sgd optimizer(shards, {.lr = kLr, .momentum = kMomentum});
      train(*strategy, net, 0, kHalf, optimizer);
      std::vector<std::string> kept;
      for (const Buffer& b : kept_of(shards, optimizer, *strategy, net)) {
        kept.emplace_back(static_cast<const char*>(b.data), b.bytes());
      }
      const Outcome expected = train(*strategy, net, kHalf, kAll, optimizer);

      SmallNet other(at::kDouble);
      const auto resumed = local_steps(world, options);
      const auto other_shards = resumed->attach(other);
      Sgd other_optimizer(other_shards, {.lr = kLr, .momentum = kMomentum});
      const auto buffers = kept_of(other_shards, other_optimizer, *resumed, other);
      ASSERT_EQ(buffers.size(), kept.size());
      for (std::size_t i = 0; i < kept.size(); ++i) {
        std::memcpy(buffers[i].data, kept[i].data(), kept[i].size());
      }
      const Outcome actual = train(*resumed, other, kHalf, kAll, other_optimizer);
      EXPECT_EQ(actual.parameters, expected.parameters) << form.name;
      EXPECT_EQ(actual.buffers, expected.buffers) << form.name;
    });
  }
}

// Buffers included; tests/train/undisturbed_test.cpp has whole runs, codecs and groups.
TEST_P(LocalSteps, AreNotDisturbedByMeansThatAreShown) {
  for (const Form& form : forms()) {
    const bool streams =
        form.options.fragments > 1 || (form.options.delay > 0 && form.options.mix > 0);
    if (!streams) continue;
    const Outcome expected = train_on(GetParam(), form.options, 20)[0];
    const Outcome actual = train_on(GetParam(), form.options, 20, Sync::kIfFree)[0];
    EXPECT_EQ(actual.synchronized, std::vector<bool>(20, true)) << form.name;
    EXPECT_EQ(actual.parameters, expected.parameters) << form.name;
    EXPECT_EQ(actual.buffers, expected.buffers) << form.name;
  }
}

TEST_P(LocalSteps, LearnALineThroughACodec) {
  for (const char* codec : {"bf16", "int8", "top_k", "sign"}) {
    LocalStepsOptions options{.steps = 4};
    options.world.compression = {.codec = codec, .ratio = 0.4};
    expect_to_learn_a_line(GetParam(), options, 1e-3);
  }
}

TEST_P(LocalSteps, WriteEachStateOnce) {
  std::mutex mutex;
  std::vector<std::string> written;
  test::run_ranks(GetParam(), [&](Communicator& world) {
    torch::nn::Linear model(2, 1);
    const auto strategy = local_steps(world, diloco(4));
    strategy->attach(*model);
    const std::lock_guard lock(mutex);
    EXPECT_EQ(strategy->relaxed()->group().index, world.rank());
    EXPECT_TRUE(strategy->relaxed()->group().leads);
    for (const Strategy::State& state : strategy->state()) {
      if (state.is_written) written.push_back(state.name);
    }
  });
  EXPECT_THAT(written,
              testing::UnorderedElementsAre("local_steps.step", "local_steps.outer_momentum.weight",
                                            "local_steps.outer_momentum.bias"));
}

TEST_P(LocalSteps, EveryFormLearnsALine) {
  for (const Form& form : forms()) {
    LocalStepsOptions options = form.options;
    options.world.virtual_workers = 0;
    expect_to_learn_a_line(GetParam(), options, 1e-6);
  }
}

INSTANTIATE_TEST_SUITE_P(Ranks, LocalSteps, ::testing::Values(1, 2, 3, 4),
                         [](const auto& info) { return "on_" + std::to_string(info.param); });

TEST(LocalStepsBetweenHosts, KeepTheRanksOfAHostSynchronous) {
  LocalStepsOptions by_host = diloco(4), in_pairs = diloco(4);
  by_host.fragments = in_pairs.fragments = 2;
  by_host.delay = in_pairs.delay = 1;
  by_host.group_size = 0;
  in_pairs.group_size = 2;
  const std::vector<Outcome> expected = train_on(4, in_pairs, 11);
  test::run_ranks_on_hosts(
      4, [](int rank) { return rank / 2; },
      [&](Communicator& world) {
        SmallNet net(at::kDouble);
        const auto strategy = local_steps(world, by_host);
        Sgd optimizer(strategy->attach(net), {.lr = kLr, .momentum = kMomentum});
        EXPECT_EQ(strategy->relaxed()->group().index, world.rank() / 2);
        EXPECT_EQ(strategy->relaxed()->group().leads, world.rank() % 2 == 0);
        EXPECT_EQ(train(*strategy, net, 0, 11, optimizer).parameters, expected[0].parameters);
      });
}

TEST(LocalStepsBetweenHosts, MakeAGroupOfEachRankThatHasNoNeighborOnItsHost) {
  test::run_ranks_on_hosts(
      3, [](int rank) { return rank % 2; },
      [](Communicator& world) {
        torch::nn::Linear model(2, 1);
        const auto strategy = local_steps(world, {.group_size = 0});
        strategy->attach(*model);
        EXPECT_EQ(strategy->relaxed()->group().index, world.rank());
      });
}

TEST(LocalStepsOptions, ThatCannotBeAreRefused) {
  test::run_ranks(1, [](Communicator& world) {
    const LocalStepsOptions bad[] = {{.group_size = -1},       {.steps = 0},
                                     {.outer_lr = 0},          {.outer_momentum = 1},
                                     {.fragments = 0},         {.steps = 2, .fragments = 3},
                                     {.steps = 2, .delay = 2}, {.mix = 1}};
    for (const LocalStepsOptions& options : bad) {
      EXPECT_THROW(local_steps(world, options), UsageError);
    }
  });
  test::run_ranks(3, [](Communicator& world) {
    EXPECT_THROW(local_steps(world, {.world = {.virtual_workers = 2}}), UsageError);
  });
}

}  // namespace
}  // namespace trireme
