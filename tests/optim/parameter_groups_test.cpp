#include "trireme/optim/parameter_groups.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "tests/optim/parameters.h"
#include "trireme/base/error.h"
#include "trireme/optim/adam.h"
#include "trireme/optim/make_optimizer.h"
#include "trireme/optim/sgd.h"

namespace trireme {
namespace {

using Groups = std::vector<ParameterGroup>;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::ThrowsMessage;

const std::vector<ParameterInfo> kTransformer = {
    {"wte.weight", {50, 8}},           {"blocks.0.norm.weight", {8}}, {"blocks.0.norm.bias", {8}},
    {"blocks.0.attn.weight", {24, 8}}, {"blocks.0.attn.bias", {24}},  {"head.weight", {50, 8}}};

std::vector<std::string> names_of(const ParameterGroup& group) {
  std::vector<std::string> names;
  for (const ParameterInfo& parameter : kTransformer) {
    if (group_of(std::span(&group, 1), parameter) != nullptr) names.push_back(parameter.name);
  }
  return names;
}

TEST(ParameterGroups, KnowTheKindOfAParameter) {
  EXPECT_EQ(kind_of({"fc1.weight", {3, 4}}), "hidden");
  EXPECT_EQ(kind_of({"fc1.bias", {3}}), "bias");
  EXPECT_EQ(kind_of({"lstm.bias_hh_l0", {12}}), "bias");
  EXPECT_EQ(kind_of({"attn.in_proj_bias", {12}}), "bias");
  EXPECT_EQ(kind_of({"bias_net.weight", {3, 3}}), "hidden");
  EXPECT_EQ(kind_of({"norm.weight", {3}}), "norm");
  EXPECT_EQ(kind_of({"convolution.weight", {8, 3, 3, 3}}), "hidden");
  EXPECT_EQ(kind_of({"token_embedding.weight", {50, 8}}), "embedding");
  EXPECT_EQ(kind_of({"transformer.wpe.weight", {50, 8}}), "embedding");
  EXPECT_EQ(kind_of({"weight", {50, 8}}), "hidden");
  EXPECT_EQ(kind_of({"lm_head.weight", {50, 8}}), "output");
  EXPECT_EQ(kind_of({"model.lm_head.weight", {50, 8}}), "output");
  EXPECT_EQ(kind_of({"classifier.weight", {50, 8}}), "output");
  EXPECT_EQ(kind_of({"encoder.output.weight", {50, 8}}), "hidden");
}

TEST(ParameterGroups, FindBiasesNormsAndEmbeddingsOfGptsByOneKind) {
  const ParameterGroup no_decay{.kind = "bias_norm_and_embedding", .weight_decay = 0};
  const auto is_found = [&](const std::string& name, TensorShape shape) {
    return group_of(std::span(&no_decay, 1), {name, std::move(shape)}) != nullptr;
  };
  // GPT-2's names, then Llama's.
  EXPECT_TRUE(is_found("transformer.wte.weight", {50, 8}));
  EXPECT_TRUE(is_found("wpe.weight", {16, 8}));
  EXPECT_TRUE(is_found("h.0.ln_1.weight", {8}));
  EXPECT_TRUE(is_found("h.0.ln_1.bias", {8}));
  EXPECT_TRUE(is_found("h.0.attn.c_attn.bias", {24}));
  EXPECT_TRUE(is_found("ln_f.weight", {8}));
  EXPECT_FALSE(is_found("h.0.attn.c_attn.weight", {8, 24}));
  EXPECT_TRUE(is_found("model.embed_tokens.weight", {50, 8}));
  EXPECT_TRUE(is_found("model.layers.0.input_layernorm.weight", {8}));
  EXPECT_TRUE(is_found("model.norm.weight", {8}));
  EXPECT_FALSE(is_found("model.layers.0.mlp.gate_proj.weight", {20, 8}));
  EXPECT_FALSE(is_found("lm_head.weight", {50, 8}));
}

TEST(ParameterGroups, MatchByNameAndKind) {
  EXPECT_THAT(names_of({.match = "blocks.*.bias"}),
              ElementsAre("blocks.0.norm.bias", "blocks.0.attn.bias"));
  EXPECT_THAT(names_of({.kind = "embedding"}), ElementsAre("wte.weight"));
  EXPECT_THAT(names_of({.kind = "matrix"}), ElementsAre("blocks.0.attn.weight", "head.weight"));
  EXPECT_THAT(names_of({.kind = "bias_and_norm"}),
              ElementsAre("blocks.0.norm.weight", "blocks.0.norm.bias", "blocks.0.attn.bias"));
  EXPECT_THAT(names_of({.match = "*.attn.*", .kind = "bias"}), ElementsAre("blocks.0.attn.bias"));
  EXPECT_EQ(names_of({}).size(), kTransformer.size());
}

TEST(ParameterGroups, TheFirstMatchWins) {
  const Groups groups = {{.match = "head.*", .lr_factor = 2}, {.kind = "matrix", .lr_factor = 3}};
  EXPECT_EQ(group_of(groups, kTransformer[5])->lr_factor, 2);
  EXPECT_EQ(group_of(groups, kTransformer[3])->lr_factor, 3);
  EXPECT_EQ(group_of(groups, kTransformer[0]), nullptr);
}

TEST(ParameterGroups, ThatMatchNothingAreAnErrorThatNamesNearNames) {
  const auto check = [](const Groups& groups) {
    return [groups] { check_groups(groups, kTransformer); };
  };
  EXPECT_THAT(check({{.kind = "bias"}, {.match = "head.weigth"}}),
              ThrowsMessage<UsageError>("optimizer.groups[1]: no parameter has match = "
                                        "\"head.weigth\"; did you mean \"head.weight\"?"));
  EXPECT_THAT(check({{.match = "encoder.layers.*"}}),
              ThrowsMessage<UsageError>(HasSubstr("the names of the model are wte.weight, ")));
  EXPECT_THAT(
      check({{.match = "wte.*", .kind = "bias"}}),
      ThrowsMessage<UsageError>(
          "optimizer.groups[0]: no parameter has match = \"wte.*\" and kind = \"bias\"; the "
          "kinds of the model are bias, embedding, hidden, norm, output"));
}

TEST(ParameterGroups, RefuseValuesThatCannotBe) {
  EXPECT_THAT([] { check_values(Groups{{.kind = "biases"}}); },
              ThrowsMessage<UsageError>(HasSubstr("kind must be one of bias, norm,")));
  EXPECT_THAT([] { check_values(Groups{{.rule = "sgd"}}); },
              ThrowsMessage<UsageError>(HasSubstr("rule must be muon or adamw, got \"sgd\"")));
  EXPECT_THROW(check_values(Groups{{.lr_factor = -1}}), UsageError);
  EXPECT_THROW(check_values(Groups{{.weight_decay = -1.0}}), UsageError);
  EXPECT_THROW(check_values(Groups{{.betas = {{0.9, 1.0}}}}), UsageError);
}

TEST(ParameterGroups, ByNameMatchTheSameParametersWithoutShapes) {
  const Groups groups = {{.match = "head.*", .lr_factor = 2},
                         {.kind = "norm", .weight_decay = 0.0}};
  const Groups named = groups_by_name(groups, kTransformer);
  ASSERT_EQ(named.size(), 2u);
  for (const ParameterInfo& parameter : kTransformer) {
    const ParameterGroup* wanted = group_of(groups, parameter);
    const ParameterGroup* got = group_of(named, {parameter.name, {12345}});
    ASSERT_EQ(got == nullptr, wanted == nullptr) << parameter.name;
    if (wanted != nullptr) {
      EXPECT_EQ(got->lr_factor, wanted->lr_factor);
      EXPECT_EQ(got->weight_decay, wanted->weight_decay);
    }
  }
}

TEST(ParameterGroups, OfNoOptionLeaveAnOptimizerWithItsBits) {
  for (const std::string& name : optimizer_names()) {
    Parameters<float> with({100, 5}), without({100, 5});
    const auto grouped = make_optimizer({.name = name, .lr = 0.1, .groups = {{}}}, with.shards());
    const auto plain = make_optimizer({.name = name, .lr = 0.1}, without.shards());
    for (std::uint64_t step = 0; step < 3; ++step) {
      with.draw_gradients(step);
      without.draw_gradients(step);
      grouped->step();
      plain->step();
    }
    EXPECT_EQ(with.values(), without.values()) << name;
  }
}

TEST(ParameterGroups, ThatAreNotTrainableKeepTheirValues) {
  Parameters<float> parameters({100, 5});
  const auto before = parameters.values();
  const auto adam = make_optimizer(
      {.name = "adam", .groups = {{.match = "p1", .trainable = false}}}, parameters.shards());
  parameters.draw_gradients(0);
  adam->step();
  EXPECT_NE(parameters.values()[0], before[0]);
  EXPECT_EQ(parameters.values()[1], before[1]);
}

TEST(ParameterGroups, KeepTheNamesOfTheState) {
  Parameters<float> parameters({100, 5});
  const auto adam = make_optimizer({.name = "adam", .groups = {{.match = "p1", .lr_factor = 2}}},
                                   parameters.shards());
  std::vector<std::string> names;
  for (const StateTensor& tensor : adam->state()) names.push_back(tensor.name);
  EXPECT_THAT(names, ElementsAre("p0.step", "p0.exp_avg", "p0.exp_avg_sq", "p1.step", "p1.exp_avg",
                                 "p1.exp_avg_sq"));
}

TEST(ParameterGroups, RefuseWhatTheOptimizerDoesNotHave) {
  Parameters<float> parameters({100, 5});
  EXPECT_THAT(
      [&] {
        make_optimizer({.name = "ftrl", .groups = {{.weight_decay = 0.0}}}, parameters.shards());
      },
      ThrowsMessage<UsageError>("optimizer.groups[0]: weight_decay is not an option of ftrl; its "
                                "groups have lr_factor, trainable"));
  EXPECT_THAT(
      [&] {
        make_optimizer({.name = "sgd", .groups = {{.betas = {{0.9, 0.9}}}}}, parameters.shards());
      },
      ThrowsMessage<UsageError>("optimizer.groups[0]: betas is not an option of sgd; its groups "
                                "have lr_factor, weight_decay, trainable"));
}

TEST(ParameterGroups, HaveTheOptionsThatTheOptimizerHas) {
  const std::set<std::string> without_weight_decay = {"ftrl"};
  const std::set<std::string> with_betas = {"adam", "adamw", "lamb", "muon"};
  for (const std::string& name : optimizer_names()) {
    const auto accepts = [&](const ParameterGroup& group) {
      try {
        make_optimizer({.name = name, .groups = {group}}, {});
        return true;
      } catch (const UsageError&) {
        return false;
      }
    };
    EXPECT_TRUE(accepts({.lr_factor = 2})) << name;
    EXPECT_TRUE(accepts({.trainable = false})) << name;
    EXPECT_EQ(accepts({.weight_decay = 0}), !without_weight_decay.contains(name)) << name;
    EXPECT_EQ(accepts({.betas = {{0.5, 0.5}}}), with_betas.contains(name)) << name;
    EXPECT_EQ(accepts({.rule = "adamw"}), name == "muon") << name;
  }
}

TEST(ParameterGroups, FollowTheRateThatASchedulerSets) {
  Parameters<double> parameters({1, 1});
  parameters.values() = {{0}, {0}};
  Sgd sgd(parameters.shards(), {.lr = 1});
  sgd.set_groups(Groups{{.match = "p1", .lr_factor = 0.5}});
  parameters.gradients()[0][0] = parameters.gradients()[1][0] = 1;
  sgd.step();
  sgd.set_lr(0.25);
  sgd.step();
  EXPECT_EQ(parameters.values()[0][0], -1.25);
  EXPECT_EQ(parameters.values()[1][0], -0.625);
}

}  // namespace
}  // namespace trireme
