#include "trireme/parallel/local_steps.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/nn/functional/loss.h>
#include <torch/nn/modules/batchnorm.h>
#include <torch/nn/modules/linear.h>

#include <cmath>
#include <cstring>
#include <map>
#include <mutex>

#include "tests/comm/ranks.h"
#include "trireme/base/error.h"
#include "trireme/base/random.h"
#include "trireme/optim/sgd.h"

namespace trireme {
namespace {

constexpr int kVirtualWorkers = 6;  // on 4 ranks some have two and some one
constexpr double kLr = 0.05;
constexpr double kMomentum = 0.8;

at::Tensor random_tensor(at::IntArrayRef shape, std::uint64_t seed) {
  const CounterRandom random(seed);
  at::Tensor tensor = at::empty(shape, at::kDouble);
  for (std::int64_t i = 0; i < tensor.numel(); ++i) {
    tensor.data_ptr<double>()[i] = random.normal(i);
  }
  return tensor;
}

struct Net : torch::nn::Module {
  Net() {
    first = register_module("first", torch::nn::Linear(5, 9));
    norm = register_module("norm", torch::nn::BatchNorm1d(9));
    second = register_module("second", torch::nn::Linear(9, 1));
    to(at::kDouble);
    std::uint64_t seed = 1;
    const at::NoGradGuard no_grad;
    for (at::Tensor& p : parameters()) p.copy_(random_tensor(p.sizes(), seed++).mul_(0.3));
  }

  at::Tensor forward(const at::Tensor& x) { return second(norm(first(x)).tanh()); }

  torch::nn::Linear first{nullptr}, second{nullptr};
  torch::nn::BatchNorm1d norm{nullptr};
};

at::Tensor loss_of(Net& net, std::int64_t step, std::int64_t worker) {
  const auto seed = static_cast<std::uint64_t>(1000 + step * 100 + worker);
  return torch::mse_loss(net.forward(random_tensor({4, 5}, seed)),
                         random_tensor({4, 1}, seed + 50000));
}

using Values = std::vector<double>;

Values flat(const std::vector<at::Tensor>& tensors) {
  Values values;
  for (const at::Tensor& tensor : tensors) {
    const at::Tensor row = tensor.detach().to(at::kDouble).contiguous().view(-1);
    values.insert(values.end(), row.data_ptr<double>(), row.data_ptr<double>() + row.numel());
  }
  return values;
}

void set(const std::vector<at::Tensor>& tensors, const Values& values) {
  const at::NoGradGuard no_grad;
  const double* at = values.data();
  for (const at::Tensor& tensor : tensors) {
    tensor.copy_(at::from_blob(const_cast<double*>(at), tensor.sizes(), at::kDouble));
    at += tensor.numel();
  }
}

// What a run leaves on a rank.
struct Outcome {
  Values parameters;
  Values buffers;
  std::vector<double> losses;
  std::vector<bool> in_step;
};

// As a user trains; the last step asks to be in step.
Outcome train(Strategy& strategy, Net& net, std::int64_t first, std::int64_t last,
              Optimizer& optimizer) {
  Outcome outcome;
  const Range mine = strategy.virtual_workers();
  for (std::int64_t step = first; step < last; ++step) {
    strategy.begin();
    for (std::int64_t worker = mine.begin; worker < mine.end; ++worker) {
      const at::Tensor loss = loss_of(net, step, worker);
      strategy.add_loss(loss.item<double>());
      loss.backward();
    }
    strategy.reduce_gradients();
    optimizer.step();
    if (step + 1 == last) strategy.ask_to_be_in_step();
    strategy.publish_parameters();
    outcome.losses.push_back(strategy.loss());
    outcome.in_step.push_back(strategy.is_in_step());
  }
  outcome.parameters = flat(net.parameters());
  outcome.buffers = flat(net.buffers());
  return outcome;
}

// Of every rank.
std::vector<Outcome> train_on(int ranks, const LocalStepsOptions& options, std::int64_t steps) {
  std::vector<Outcome> outcomes(static_cast<std::size_t>(ranks));
  test::run_ranks(ranks, [&](Communicator& world) {
    Net net;
    if (world.rank() > 0) net.first->weight.data().fill_(99);  // attach() must repair this
    const auto strategy = local_steps(world, options);
    Sgd optimizer(strategy->attach(net), {.lr = kLr, .momentum = kMomentum});
    outcomes[static_cast<std::size_t>(world.rank())] = train(*strategy, net, 0, steps, optimizer);
  });
  return outcomes;
}

// One process in which the groups take their turns one after another: numbers in vectors, each
// formula written out.
class Simulation {
 public:
  Simulation(int ranks, const LocalStepsOptions& options) : options_(options) {
    // Virtual workers are dealt out to ranks, the first of which get the rest; with shares all but
    // one each.
    std::int64_t next = 0;
    for (int rank = 0; rank < ranks; ++rank) {
      if (rank % options.group_size == 0) groups_.push_back({.first = next});
      if (options.world.shares.empty()) {
        next += kVirtualWorkers / ranks + (rank < kVirtualWorkers % ranks ? 1 : 0);
      } else {
        next += rank > 0 ? 1 : kVirtualWorkers - (ranks - 1);
      }
      groups_.back().end = next;
    }
    for (Group& group : groups_) {
      group.parameters = flat(net_.parameters());
      group.buffers = flat(net_.buffers());
      group.momentum.assign(group.parameters.size(), 0);
    }
    agreed_ = groups_[0].parameters;
    outer_momentum_.assign(agreed_.size(), 0);
    const std::size_t size = agreed_.size();
    const auto pieces = static_cast<std::size_t>(options.fragments);
    std::size_t at = 0;
    for (std::size_t f = 0; f < pieces; ++f) {
      const std::size_t end = at + size / pieces + (f < size % pieces ? 1 : 0);
      fragments_.push_back({at, end, options.steps * static_cast<int>(f) / options.fragments});
      at = end;
    }
  }

  void run(int steps) {
    for (int step = 1; step <= steps; ++step) {
      for (Group& group : groups_) take_step(group, step - 1);
      for (Fragment& fragment : fragments_) {
        if (is_due(fragment, step - options_.delay) && !fragment.change.empty()) arrive(fragment);
        if (is_due(fragment, step)) {
          send(fragment);
          if (options_.delay == 0) arrive(fragment);
        }
      }
      const bool turn = options_.fragments == 1 && step % options_.steps == options_.delay &&
                        step > options_.delay && (options_.delay == 0 || options_.mix == 0);
      if (step == steps && !turn) come_together();
    }
  }

  Values parameters(int rank) const { return group_of(rank).parameters; }
  Values buffers(int rank) const { return group_of(rank).buffers; }

 private:
  struct Group {
    std::int64_t first = 0, end = 0;  // virtual workers
    Values parameters, buffers, momentum;
    double share() const { return static_cast<double>(end - first) / kVirtualWorkers; }
  };
  struct Fragment {
    std::size_t first, end;
    int offset;
    Values change = {};  // of the parameters, or their mean values
    Values buffers = {};
  };

  const Group& group_of(int rank) const {
    return groups_[static_cast<std::size_t>(rank / options_.group_size)];
  }

  bool is_due(const Fragment& fragment, int step) const {
    return step > fragment.offset && (step - fragment.offset) % options_.steps == 0;
  }

  void take_step(Group& group, std::int64_t step) {
    Values gradient(group.parameters.size(), 0), buffers = group.buffers;
    const auto workers = static_cast<double>(group.end - group.first);
    for (std::int64_t worker = group.first; worker < group.end; ++worker) {
      set(net_.parameters(), group.parameters);
      set(net_.buffers(), group.buffers);
      net_.zero_grad();
      loss_of(net_, step, worker).backward();
      std::vector<at::Tensor> gradients;
      for (const at::Tensor& p : net_.parameters()) gradients.push_back(p.grad());
      const Values own = flat(gradients), now = flat(net_.buffers());
      for (std::size_t i = 0; i < own.size(); ++i) gradient[i] += own[i] / workers;
      for (std::size_t i = 0; i < now.size(); ++i) {
        buffers[i] += (now[i] - group.buffers[i]) / workers;
      }
    }
    group.buffers = buffers;
    for (std::size_t i = 0; i < gradient.size(); ++i) {
      group.momentum[i] = kMomentum * group.momentum[i] + gradient[i];
      group.parameters[i] -= kLr * group.momentum[i];
    }
  }

  Values mean_of_buffers() const {
    Values mean(groups_[0].buffers.size(), 0);
    for (const Group& group : groups_) {
      for (std::size_t i = 0; i < mean.size(); ++i) mean[i] += group.share() * group.buffers[i];
    }
    return mean;
  }

  void send(Fragment& fragment) {
    fragment.change.assign(fragment.end - fragment.first, 0);
    for (const Group& group : groups_) {
      for (std::size_t i = fragment.first; i < fragment.end; ++i) {
        fragment.change[i - fragment.first] += group.share() * (agreed_[i] - group.parameters[i]);
      }
    }
    fragment.buffers = mean_of_buffers();
  }

  void arrive(Fragment& fragment) {
    const double kept = options_.delay > 0 ? options_.mix : 0;
    for (std::size_t i = fragment.first; i < fragment.end; ++i) {
      const double change = fragment.change[i - fragment.first];
      outer_momentum_[i] = options_.outer_momentum * outer_momentum_[i] + change;
      agreed_[i] -= options_.outer_lr * (change + options_.outer_momentum * outer_momentum_[i]);
      for (Group& group : groups_) {
        group.parameters[i] = kept * group.parameters[i] + (1 - kept) * agreed_[i];
      }
    }
    for (Group& group : groups_) {
      for (std::size_t i = 0; fragment.first == 0 && i < group.buffers.size(); ++i) {
        group.buffers[i] = kept * group.buffers[i] + (1 - kept) * fragment.buffers[i];
      }
    }
    fragment.change.clear();
  }

  void come_together() {
    for (Fragment& fragment : fragments_) {
      if (!fragment.change.empty()) arrive(fragment);
    }
    Values mean(agreed_.size(), 0);
    for (const Group& group : groups_) {
      for (std::size_t i = 0; i < mean.size(); ++i) mean[i] += group.share() * group.parameters[i];
    }
    const Values buffers = mean_of_buffers();
    for (Group& group : groups_) {
      group.parameters = mean;
      group.buffers = buffers;
    }
    agreed_ = mean;
  }

  LocalStepsOptions options_;
  Net net_;
  std::vector<Group> groups_;
  std::vector<Fragment> fragments_;
  Values agreed_, outer_momentum_;
};

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
      EXPECT_TRUE(outcome.in_step.back());
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

// y = 3 a - 2 b + 1 exactly, each rank with samples of its own: all agree where the loss is least.
void expect_to_learn_a_line(int ranks, const LocalStepsOptions& options, double tolerance) {
  test::run_ranks(ranks, [&](Communicator& world) {
    torch::nn::Linear model(2, 1);
    model->to(at::kDouble);
    const auto strategy = local_steps(world, options);
    Sgd optimizer(strategy->attach(*model), {.lr = 0.1});
    const at::Tensor x = random_tensor({16, 2}, static_cast<std::uint64_t>(world.rank()));
    const at::Tensor y = x.matmul(at::tensor({3.0, -2.0}, at::kDouble)).add(1).view({16, 1});
    for (int step = 0; step < 800; ++step) {
      strategy->begin();
      torch::mse_loss(model->forward(x), y).backward();
      strategy->reduce_gradients();
      optimizer.step();
      if (step == 799) strategy->ask_to_be_in_step();
      strategy->publish_parameters();
    }
    expect_near(flat(model->parameters()), {3, -2, 1}, tolerance);
  });
}

class LocalSteps : public ::testing::TestWithParam<int> {};

TEST_P(LocalSteps, OneStepAndTheMeanIsSynchronousTraining) {
  const std::vector<Outcome> outcomes = train_on(GetParam(), with({.steps = 1}), 5);
  test::run_ranks(1, [&](Communicator& world) {
    Net net;
    const auto strategy = replicated(world, {.virtual_workers = kVirtualWorkers});
    Sgd optimizer(strategy->attach(net), {.lr = kLr, .momentum = kMomentum});
    const Outcome expected = train(*strategy, net, 0, 5, optimizer);
    for (const Outcome& outcome : outcomes) {
      expect_near(outcome.parameters, expected.parameters, 1e-13);
      expect_near(outcome.buffers, expected.buffers, 1e-13);
      expect_near(outcome.losses, expected.losses, 1e-13);
      EXPECT_EQ(outcome.in_step, std::vector<bool>(5, true));
    }
  });
}

TEST_P(LocalSteps, AloneWithTheMeanIsTrainingWithoutIt) {
  LocalStepsOptions options = with({.steps = 3});
  options.group_size = GetParam();
  const std::vector<Outcome> outcomes = train_on(GetParam(), options, 7);
  test::run_ranks(GetParam(), [&](Communicator& world) {
    Net net;
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
  // What travels is f32.
  expect_near(train_on(GetParam(), options, 14)[0].parameters, simulation.parameters(0), 1e-6);
}

TEST_P(LocalSteps, MoveNothingButInTheirTurn) {
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
        const Traffic before = strategy->traffic();
        strategy->begin();
        model->forward(at::ones({1, kParameters})).sum().backward();
        strategy->reduce_gradients();
        optimizer.step();
        strategy->publish_parameters();
        const Traffic now = strategy->traffic() - before;
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

TEST_P(LocalSteps, RanksAreInStepEveryHStepsAndWhenAsked) {
  const Outcome outcome = train_on(GetParam(), diloco(3), 8)[0];
  EXPECT_EQ(outcome.in_step,
            (std::vector<bool>{false, false, true, false, false, true, false, true}));
}

// A step of one virtual worker each, whose parameters do not matter.
void step_alone(Strategy& strategy, torch::nn::Linear& model, bool raise) {
  if (raise) strategy.raise_flag();
  strategy.begin();
  model->forward(at::full({1, 2}, 1.0)).sum().backward();
  strategy.reduce_gradients();
  for (at::Tensor& p : model->parameters()) {
    if (p.grad().defined()) p.data().sub_(p.grad(), 0.1);
  }
  strategy.publish_parameters();
}

TEST_P(LocalSteps, AFlagIsSeenByAllAfterTheNextExchange) {
  test::run_ranks(GetParam(), [](Communicator& world) {
    torch::nn::Linear model(2, 1);
    const auto strategy = local_steps(world, {.steps = 4});
    strategy->attach(*model);
    std::vector<int> seen;
    for (int step = 1; step <= 9; ++step) {
      step_alone(*strategy, model, step == 2 && world.rank() == world.size() - 1);
      if (strategy->flag_raised()) seen.push_back(step);
      EXPECT_EQ(strategy->is_in_step(), step % 4 == 0);
    }
    EXPECT_THAT(seen, testing::ElementsAre(4));
  });
}

TEST_P(LocalSteps, AFlagTravelsWithAFragmentAndBringsAllInStep) {
  test::run_ranks(GetParam(), [](Communicator& world) {
    torch::nn::Linear model(2, 1);
    // Sent at 2, 4, 6, ...; seen one step later.
    const auto strategy = local_steps(world, {.steps = 4, .fragments = 2, .delay = 1});
    strategy->attach(*model);
    std::vector<int> seen, in_step;
    for (int step = 1; step <= 9; ++step) {
      step_alone(*strategy, model, step == 5 && world.rank() == world.size() - 1);
      if (strategy->flag_raised()) seen.push_back(step);
      if (strategy->is_in_step()) in_step.push_back(step);
    }
    EXPECT_THAT(seen, testing::ElementsAre(7));
    EXPECT_THAT(in_step, testing::ElementsAre(7));
  });
}

TEST_P(LocalSteps, WhoCanWaitWaitsForTheTurnUnlessThereIsNone) {
  test::run_ranks(GetParam(), [](Communicator& world) {
    for (const int fragments : {1, 2}) {
      torch::nn::Linear model(2, 1);
      const auto strategy = local_steps(world, {.steps = 4, .fragments = fragments});
      strategy->attach(*model);
      strategy->wait_to_be_in_step();
      step_alone(*strategy, model, false);
      EXPECT_EQ(strategy->is_in_step(), fragments == 2);
      step_alone(*strategy, model, false);
      EXPECT_FALSE(strategy->is_in_step());
    }
  });
}

// All that a checkpoint has to keep.
std::vector<Buffer> kept_of(std::span<Shard> shards, Optimizer& optimizer, Strategy& strategy,
                            const Net& net) {
  std::vector<Buffer> buffers;
  for (const Shard& shard : shards) buffers.push_back(shard.values);
  for (const Optimizer::Slot& slot : optimizer.state()) buffers.push_back(slot.values);
  for (const Strategy::State& state : strategy.state()) buffers.push_back(state.values);
  for (const at::Tensor& buffer : net.buffers()) buffers.push_back(buffer_of(buffer));
  return buffers;
}

TEST_P(LocalSteps, GoOnWithTheSameBitsFromWhatTheyRemember) {
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
      Net net;
      const auto strategy = local_steps(world, options);
      const auto shards = strategy->attach(net);
      Sgd optimizer(shards, {.lr = kLr, .momentum = kMomentum});
      train(*strategy, net, 0, kHalf, optimizer);
      std::vector<std::string> kept;
      for (const Buffer& b : kept_of(shards, optimizer, *strategy, net)) {
        kept.emplace_back(static_cast<const char*>(b.data), b.bytes());
      }
      const Outcome expected = train(*strategy, net, kHalf, kAll, optimizer);

      Net other;
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

TEST_P(LocalSteps, LearnALineThroughACodec) {
  for (const char* codec : {"bf16", "int8", "top_k", "sign"}) {
    LocalStepsOptions options{.steps = 4};
    options.world.compression = {.codec = codec, .ratio = 0.4};
    expect_to_learn_a_line(GetParam(), options, 1e-3);
  }
}

TEST_P(LocalSteps, WriteWhatAllRememberOnce) {
  std::mutex mutex;
  std::vector<std::string> written;
  test::run_ranks(GetParam(), [&](Communicator& world) {
    torch::nn::Linear model(2, 1);
    const auto strategy = local_steps(world, diloco(4));
    strategy->attach(*model);
    const std::lock_guard lock(mutex);
    EXPECT_EQ(strategy->group().index, world.rank());
    EXPECT_TRUE(strategy->group().leads);
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

TEST(LocalStepsBetweenHosts, KeepTheRanksOfAHostInStep) {
  LocalStepsOptions by_host = diloco(4), in_pairs = diloco(4);
  by_host.fragments = in_pairs.fragments = 2;
  by_host.delay = in_pairs.delay = 1;
  by_host.group_size = 0;
  in_pairs.group_size = 2;
  const std::vector<Outcome> expected = train_on(4, in_pairs, 11);
  test::run_ranks_on_hosts(
      4, [](int rank) { return rank / 2; },
      [&](Communicator& world) {
        Net net;
        const auto strategy = local_steps(world, by_host);
        Sgd optimizer(strategy->attach(net), {.lr = kLr, .momentum = kMomentum});
        EXPECT_EQ(strategy->group().index, world.rank() / 2);
        EXPECT_EQ(strategy->group().leads, world.rank() % 2 == 0);
        EXPECT_EQ(train(*strategy, net, 0, 11, optimizer).parameters, expected[0].parameters);
      });
}

TEST(LocalStepsBetweenHosts, TakeRanksApartFromTheirHostForAlone) {
  test::run_ranks_on_hosts(
      3, [](int rank) { return rank % 2; },
      [](Communicator& world) {
        torch::nn::Linear model(2, 1);
        const auto strategy = local_steps(world, {.group_size = 0});
        strategy->attach(*model);
        EXPECT_EQ(strategy->group().index, world.rank());
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
