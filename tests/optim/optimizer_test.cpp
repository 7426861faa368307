#include "trireme/optim/optimizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <set>
#include <string>

#include "tests/optim/parameters.h"
#include "trireme/base/error.h"
#include "trireme/kernels/reduce.h"
#include "trireme/optim/adagrad.h"
#include "trireme/optim/adam.h"
#include "trireme/optim/make_optimizer.h"
#include "trireme/optim/sgd.h"

namespace trireme {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::ThrowsMessage;

OptimizerOptions with_momentum(const std::string& name) {
  OptimizerOptions options;
  options.name = name;
  options.lr = 0.01;
  options.momentum = 0.9;
  options.weight_decay = 0.01;
  return without_other_options(options);
}

TEST(Optimizer, GivesTheSameBitsHoweverParametersAreCut) {
  for (const std::string& name : optimizer_names()) {
    if (name == "lamb") continue;  // of muon, what adamw updates
    for (const std::int64_t piece : {3343, 4096, 5, 8000}) {
      Parameters<float> whole({10'029, 1});
      Parameters<float> cut({10'029, 1}, piece);
      const auto of_whole = make_optimizer(with_momentum(name), whole.shards());
      const auto of_cut = make_optimizer(with_momentum(name), cut.shards());
      for (std::uint64_t step = 0; step < 5; ++step) {
        whole.draw_gradients(step);
        cut.draw_gradients(step);
        of_whole->step();
        of_cut->step();
      }
      EXPECT_EQ(whole.values(), cut.values()) << name << " in pieces of " << piece;
    }
  }
}

// Of names in optimizer_names().
class SumOfTerms : public testing::TestWithParam<std::string> {};

TEST_P(SumOfTerms, HasTheBitsOfAnAllReduce) {
  const ReductionTree tree(12, 5);
  Parameters<float> summed({10'029});
  Parameters<float> in_terms({10'029});
  for (auto* parameters : {&summed, &in_terms}) parameters->reshape(0, {3343, 3});
  std::vector<std::vector<float>> terms(tree.terms().size(), std::vector<float>(10'029));
  std::vector<const void*> pointers;
  for (const auto& term : terms) pointers.push_back(term.data());
  in_terms.shards()[0].gradient = pointers;
  in_terms.shards()[0].tree = &tree;
  const auto of_summed = make_optimizer({.name = GetParam()}, summed.shards());
  const auto of_terms = make_optimizer({.name = GetParam()}, in_terms.shards());
  for (std::uint64_t step = 0; step < 5; ++step) {
    for (std::size_t t = 0; t < terms.size(); ++t) {
      in_terms.draw_gradients(100 * step + t);
      terms[t] = in_terms.gradients()[0];
    }
    void* const outs[] = {summed.gradients()[0].data()};
    tree_reduce(outs, pointers, tree, 10'029, DType::kF32, ReduceOp::kMean);
    of_summed->step();
    of_terms->step();
  }
  EXPECT_EQ(summed.values(), in_terms.values());
}

INSTANTIATE_TEST_SUITE_P(Of, SumOfTerms,
                         testing::ValuesIn(optimizer_names().begin(), optimizer_names().end()));

TEST(Optimizer, FindsGradientsWhereTheShardSaysInEachStep) {
  Parameters<float> parameters({100});
  Sgd sgd(parameters.shards(), {.lr = 1});
  const std::vector<float> before = parameters.values()[0];
  const std::vector<float> ones(100, 1.0f);
  const std::vector<float> twos(100, 2.0f);
  parameters.shards()[0].gradient = {ones.data()};
  sgd.step();
  parameters.shards()[0].gradient = {twos.data()};
  sgd.step();
  for (std::size_t i = 0; i < 100; ++i) {
    EXPECT_EQ(parameters.values()[0][i], before[i] - 1 - 2);
  }
}

TEST(Optimizer, LeavesAShardWithoutGradientAlone) {
  Parameters<float> parameters({50, 60});
  Adam adam(parameters.shards());
  parameters.draw_gradients(1);
  adam.step();
  const auto before = parameters.values();
  parameters.shards()[0].has_gradient = false;
  adam.step();
  EXPECT_EQ(parameters.values()[0], before[0]);
  EXPECT_NE(parameters.values()[1], before[1]);
  std::vector<std::int64_t> steps;
  for (const Optimizer::ShardState& state : adam.shard_states()) steps.push_back(state.step);
  EXPECT_THAT(steps, testing::ElementsAre(1, 2));
}

TEST(Optimizer, ScalesBeforeItClipsByValue) {
  std::vector<float> values(3, 0.0f);
  std::vector<float> gradient = {8.0f, -8.0f, 1.0f};
  std::vector<Shard> shards = {{"w", Region({3}), buffer_of(std::span(values)), {gradient.data()}}};
  Sgd sgd(shards, {.lr = 1});
  sgd.set_gradient_scale(0.5);
  sgd.set_gradient_clip_value(3);
  sgd.step();
  EXPECT_THAT(values, testing::ElementsAre(-3.0f, 3.0f, -0.5f));
}

TEST(Optimizer, DoesNotClipANaNAway) {
  std::vector<float> values(20, 0.0f);
  std::vector<float> gradient(20, std::numeric_limits<float>::quiet_NaN());
  std::vector<Shard> shards = {
      {"w", Region({20}), buffer_of(std::span(values)), {gradient.data()}}};
  Sgd sgd(shards, {.lr = 1});
  sgd.set_gradient_clip_value(3);
  sgd.step();
  for (const float value : values) EXPECT_TRUE(std::isnan(value));
}

TEST(Optimizer, GoesOnFromItsStateWithTheSameBits) {
  for (const std::string& name : optimizer_names()) {
    Parameters<double> first({5000, 3});
    first.reshape(0, {50, 100});
    const auto trained = make_optimizer(with_momentum(name), first.shards());
    for (std::uint64_t step = 0; step < 3; ++step) {
      first.draw_gradients(step);
      trained->step();
    }
    Parameters<double> second({5000, 3});
    second.reshape(0, {50, 100});
    const auto resumed = make_optimizer(with_momentum(name), second.shards());
    for (std::size_t i = 0; i < 2; ++i) second.values()[i] = first.values()[i];
    const auto from = trained->state();
    const auto to = resumed->state();
    ASSERT_EQ(from.size(), to.size());
    for (std::size_t i = 0; i < from.size(); ++i) {
      ASSERT_EQ(from[i].name, to[i].name);
      ASSERT_EQ(from[i].values.bytes(), to[i].values.bytes());
      std::memcpy(to[i].values.data, from[i].values.data, from[i].values.bytes());
    }
    first.draw_gradients(3);
    second.draw_gradients(3);
    trained->step();
    resumed->step();
    EXPECT_EQ(first.values(), second.values()) << name;
  }
}

TEST(Optimizer, NamesItsStateAsTorchDoes) {
  const auto names = [](const OptimizerOptions& options) {
    Parameters<float> parameters({10});
    std::vector<std::string> found;
    for (const auto& tensor : make_optimizer(options, parameters.shards())->state()) {
      EXPECT_TRUE(tensor.name.starts_with("p0.")) << tensor.name;
      found.push_back(tensor.name.substr(3));
    }
    return found;
  };
  using testing::ElementsAre;
  EXPECT_THAT(names({.name = "sgd"}), ElementsAre("step"));
  EXPECT_THAT(names({.name = "sgd", .momentum = 0.5}), ElementsAre("step", "momentum_buffer"));
  EXPECT_THAT(names({.name = "adamw"}), ElementsAre("step", "exp_avg", "exp_avg_sq"));
  EXPECT_THAT(names({.name = "rmsprop", .momentum = 0.5, .centered = true}),
              ElementsAre("step", "square_avg", "grad_avg", "momentum_buffer"));
  EXPECT_THAT(names({.name = "adagrad"}), ElementsAre("step", "sum"));
  EXPECT_THAT(names({.name = "ftrl"}), ElementsAre("step", "z", "n"));
  EXPECT_THAT(names({.name = "lamb"}), ElementsAre("step", "exp_avg", "exp_avg_sq"));
  EXPECT_THAT(names({.name = "muon"}), ElementsAre("step", "exp_avg", "exp_avg_sq"));
}

TEST(Optimizer, FollowsTheRateThatIsSet) {
  std::vector<double> values = {1.0};
  std::vector<double> gradient = {1.0};
  std::vector<Shard> shards = {{"w", Region({1}), buffer_of(std::span(values)), {gradient.data()}}};
  Sgd sgd(shards, {.lr = 0.5});
  EXPECT_EQ(sgd.lr(), 0.5);
  sgd.set_lr(0.25);
  sgd.step();
  EXPECT_EQ(values[0], 0.75);
}

TEST(Optimizer, RefusesParametersOfIntegers) {
  std::vector<std::int64_t> values(4);
  std::vector<Shard> shards = {
      {"index", Region({4}), buffer_of(std::span(values)), {values.data()}}};
  EXPECT_THAT([&] { Sgd sgd(shards); },
              ThrowsMessage<UsageError>("sgd: parameter index must be f32 or f64, got i64"));
}

TEST(MakeOptimizer, ListsKnownNamesAndGuessesTheMeantOne) {
  EXPECT_THAT([] { make_optimizer({.name = "adamv"}, {}); },
              ThrowsMessage<UsageError>(
                  AllOf(HasSubstr("sgd, adam, adamw, lamb, muon, rmsprop, adagrad, ftrl"),
                        HasSubstr("got \"adamv\""), HasSubstr("did you mean \"adam"))));
}

TEST(MakeOptimizer, NamesAnImpossibleOption) {
  const auto expect = [](const OptimizerOptions& options, const std::string& message) {
    EXPECT_THAT([&] { make_optimizer(options, {}); }, ThrowsMessage<UsageError>(message));
  };
  expect({.name = "sgd", .lr = 0}, "sgd: lr must be a positive number, got 0");
  expect({.name = "adam", .beta2 = 1}, "adam: beta2 must be in [0, 1), got 1");
  expect({.name = "adamw", .weight_decay = -1}, "adamw: weight_decay must be at least 0, got -1");
  expect({.name = "rmsprop", .alpha = 1.5}, "rmsprop: alpha must be in [0, 1), got 1.5");
  expect({.name = "adagrad", .lr = std::nan("")}, "adagrad: lr must be a positive number, got nan");
  expect({.name = "lamb", .eps = -1}, "lamb: eps must be at least 0, got -1");
  expect({.name = "muon", .newton_schulz_steps = 0},
         "muon: newton_schulz_steps must be 1 to 100, got 0");
  expect({.name = "sgd", .nesterov = true},
         "sgd: nesterov needs a momentum above 0 and no dampening");
}

// An option, a way to set it to a possible value, and the optimizers that have it.
struct OptionCase {
  std::string name;
  std::function<void(OptimizerOptions&)> set;
  std::set<std::string> optimizers;
};

const OptionCase kOptions[] = {
    {"lr",
     [](auto& o) { o.lr = 0.5; },
     {"sgd", "adam", "adamw", "lamb", "muon", "rmsprop", "adagrad", "ftrl"}},
    {"weight_decay",
     [](auto& o) { o.weight_decay = 0; },
     {"sgd", "adam", "adamw", "lamb", "muon", "rmsprop", "adagrad"}},
    {"eps", [](auto& o) { o.eps = 0.5; }, {"adam", "adamw", "lamb", "muon", "rmsprop", "adagrad"}},
    {"momentum", [](auto& o) { o.momentum = 0; }, {"sgd", "rmsprop", "muon"}},
    {"newton_schulz_steps", [](auto& o) { o.newton_schulz_steps = 3; }, {"muon"}},
    {"adamw_lr_factor", [](auto& o) { o.adamw_lr_factor = 1; }, {"muon"}},
    {"dampening", [](auto& o) { o.dampening = 0; }, {"sgd"}},
    {"nesterov", [](auto& o) { o.nesterov = false; }, {"sgd"}},
    {"beta1", [](auto& o) { o.beta1 = 0.5; }, {"adam", "adamw", "lamb", "muon"}},
    {"beta2", [](auto& o) { o.beta2 = 0.5; }, {"adam", "adamw", "lamb", "muon"}},
    {"alpha", [](auto& o) { o.alpha = 0.5; }, {"rmsprop"}},
    {"centered", [](auto& o) { o.centered = false; }, {"rmsprop"}},
    {"lr_decay", [](auto& o) { o.lr_decay = 0; }, {"adagrad"}},
    {"initial_accumulator", [](auto& o) { o.initial_accumulator = 0; }, {"adagrad"}},
    {"beta", [](auto& o) { o.beta = 1; }, {"ftrl"}},
    {"l1", [](auto& o) { o.l1 = 0; }, {"ftrl"}},
    {"l2", [](auto& o) { o.l2 = 0; }, {"ftrl"}},
};

TEST(MakeOptimizer, RefusesAnOptionThatTheOptimizerDoesNotHave) {
  for (const std::string& name : optimizer_names()) {
    std::set<std::string> own;
    for (const OptionCase& option : kOptions) {
      OptimizerOptions options{.name = name};
      option.set(options);
      if (option.optimizers.contains(name)) {
        own.insert(option.name);
        EXPECT_NO_THROW(make_optimizer(options, {})) << name << " " << option.name;
        continue;
      }
      EXPECT_THAT([&] { make_optimizer(options, {}); },
                  ThrowsMessage<UsageError>(testing::StartsWith(
                      "optimizer " + name + " has no option " + option.name + "; it has lr, ")));
      EXPECT_NO_THROW(make_optimizer(without_other_options(options), {}));
    }
    std::set<std::string> found;
    for (const OptimizerOption& option : options_of(name)) found.emplace(option.name);
    EXPECT_EQ(found, own) << name;
  }
}

TEST(MakeOptimizer, GivesEachOptimizerItsOwnDefaults) {
  Parameters<double> ours({10});
  Parameters<double> theirs({10});
  ours.draw_gradients(0);
  theirs.draw_gradients(0);
  AdamW direct(ours.shards());
  make_optimizer({.name = "adamw"}, theirs.shards())->step();
  direct.step();
  EXPECT_EQ(ours.values(), theirs.values());
}

}  // namespace
}  // namespace trireme
