#include "trireme/config/key_use.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "trireme/base/error.h"

namespace trireme {
namespace {

using Source = Config::Origin::Source;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::StartsWith;

using Words = std::vector<std::string>;

std::string refusal_of(const Config& config) {
  try {
    refuse_unused_keys(config);
  } catch (const UsageError& error) {
    return error.what();
  }
  return "";
}

std::string refusal(const std::string& toml, const Words& overrides = {},
                    Source source = Source::kFile) {
  return refusal_of(parse_config(toml, "run.toml", overrides, source));
}

TEST(UnusedKey, OfTheFileNamesPlaceValueReasonAndWhatWouldUseIt) {
  EXPECT_EQ(
      refusal("[optimizer]\nname = 'adam'\nmomentum = 0.9\n"),
      "run.toml:3:12: optimizer.momentum = 0.9 is not used with optimizer.name = \"adam\"; it "
      "is used with optimizer.name = \"sgd\" or \"rmsprop\" or \"muon\"");
}

TEST(UnusedKey, OfTheCommandLineIsRefused) {
  EXPECT_EQ(refusal("", {"communication.staleness=2"}),
            "command line: communication.staleness = 2 is not used with communication.mode = "
            "\"synchronous\"; it is used with communication.mode = \"hybrid\" and "
            "communication.hybrid = \"bounded_staleness\"");
  EXPECT_THAT(
      refusal("", {"communication.compression=int8", "communication.compression_ratio=0.1"}),
      HasSubstr("is not used with communication.compression = \"int8\"; it is used with "
                "communication.compression = \"top_k\" or \"random_k\""));
  EXPECT_THAT(refusal("", {"model.name=mlp", "model.channels=[8]"}),
              HasSubstr("used with model.name = \"cnn\""));
  EXPECT_THAT(refusal("", {"communication.servers=['tcp://a:1']"}),
              HasSubstr("not used with parallelism.strategy = \"replicated\" and "
                        "communication.mode = \"synchronous\""));
  EXPECT_THAT(refusal("", {"communication.mode=asynchronous", "communication.servers=['tcp://a:1']",
                           "communication.server_shards=2"}),
              HasSubstr("not used with communication.servers = ['tcp://a:1']"));
}

TEST(UnusedKey, IsRefusedWithItsDefaultValue) {
  EXPECT_THAT(refusal("[optimizer]\nname = 'adam'\nmomentum = 0.0\n"),
              StartsWith("run.toml:3:12: optimizer.momentum = 0.0 is not used"));
}

TEST(UnusedKey, ThatTheCommandLineMakesUselessIsDropped) {
  const Config config = parse_config("[optimizer]\nname = 'sgd'\nmomentum = 0.9\n", "run.toml",
                                     Words{"optimizer.name=adam"});
  EXPECT_EQ(refusal_of(config), "");
  EXPECT_THAT(dropped_keys(config),
              ElementsAre("run.toml:3:12: optimizer.momentum = 0.9 is not used with optimizer.name "
                          "= \"adam\""));
  EXPECT_THAT(to_toml(config), Not(HasSubstr("momentum")));
  // Two keys decide about this one; the command line has changed one of them.
  EXPECT_EQ(refusal("[communication]\nmode = 'hybrid'\nhybrid = 'diloco'\nouter_lr = 0.5\n",
                    {"communication.mode=synchronous"}),
            "");
}

TEST(UnusedKey, OfARunDirectoryIsAcceptedAndAnOverrideIsNot) {
  const std::string all = "[optimizer]\nname = 'adam'\nmomentum = 0.9\n";
  EXPECT_EQ(refusal(all, {}, Source::kRunDirectory), "");
  EXPECT_THAT(dropped_keys(parse_config(all, "config.toml", {}, Source::kRunDirectory)), IsEmpty());
  EXPECT_THAT(refusal(all, {"optimizer.momentum=0.5"}, Source::kRunDirectory),
              StartsWith("command line: optimizer.momentum = 0.5 is not used"));
}

TEST(UnusedKey, OfAConfigurationMadeByCodeIsAccepted) {
  Config config;
  config.optimizer.name = "adam";
  config.optimizer.momentum = 0.9;
  EXPECT_EQ(refusal_of(config), "");
}

TEST(UnusedKey, OfAGroupIsRefused) {
  EXPECT_THAT(refusal("[optimizer]\nname = 'ftrl'\n[[optimizer.groups]]\nkind = 'bias'\n"
                      "weight_decay = 0\n"),
              HasSubstr("optimizer.groups[0].weight_decay = 0.0 is not used with optimizer.name = "
                        "\"ftrl\""));
}

TEST(UnusedKey, HasConditionsThatNameKeysAndValuesThatExist) {
  Config defaults;
  const KeyUses uses(defaults);
  int conditions = 0;
  for (const ConfigKey& key : uses.keys()) {
    for (const ConfigKey::Use& use : key.uses) {
      ++conditions;
      const auto other = std::ranges::find(uses.keys(), use.key, &ConfigKey::name);
      ASSERT_NE(other, uses.keys().end()) << key.name;
      auto* const* text = std::get_if<std::string*>(&other->value);
      if (text == nullptr) continue;
      for (const std::string& value : use.values) {
        **text = value;
        EXPECT_FALSE(other->rule(other->value)) << key.name << " with " << use.key << value;
      }
    }
  }
  EXPECT_GT(conditions, 40);
}

TEST(WrittenToml, HasNoUnusedKeyAndReadsBack) {
  for (const Words& words :
       {Words{}, Words{"communication.mode=asynchronous"}, Words{"optimizer.name=ftrl"},
        Words{"communication.mode=hybrid", "communication.delay=1"},
        Words{"parallelism.strategy=parameter_server", "communication.servers=['tcp://a:1']"},
        Words{"optimizer.groups=[{kind='bias', weight_decay=0}]", "data.format=csv"}}) {
    const std::string toml = to_toml(parse_config("", "run.toml", words));
    EXPECT_EQ(refusal(toml), "");
    EXPECT_EQ(to_toml(parse_config(toml, "again", {})), toml);
  }
}

}  // namespace
}  // namespace trireme
