#include "trireme/config/renamed.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "trireme/base/error.h"
#include "trireme/config/config.h"
#include "trireme/config/key.h"

namespace trireme {
namespace {

using Source = Config::Origin::Source;

std::string error_of(const std::string& toml, const std::vector<std::string>& overrides = {},
                     Source source = Source::kFile) {
  try {
    parse_config(toml, "run.toml", overrides, source);
  } catch (const UsageError& error) {
    return error.what();
  }
  return "no error";
}

TEST(Renamed, AnOldValueIsAnErrorThatNamesTheNewOne) {
  EXPECT_EQ(error_of("[parallelism]\nstrategy = 'shared'\n"),
            "run.toml:2:12: parallelism.strategy = \"shared\" is now called \"host_shared\"");
  EXPECT_EQ(error_of("", {"parallelism.strategy=through_server"}),
            "command line: parallelism.strategy = \"through_server\" is now called "
            "\"parameter_server\"");
}

TEST(Renamed, AnOldValueOfARunDirectoryBecomesTheNewOne) {
  const Config config = parse_config("[parallelism]\nstrategy = 'shared'\n", "config.toml", {},
                                     Source::kRunDirectory);
  EXPECT_EQ(config.parallelism.strategy, "host_shared");
  EXPECT_EQ(error_of("[parallelism]\nstrategy = 'shared'\n",
                     {"parallelism.strategy=through_server"}, Source::kRunDirectory),
            "command line: parallelism.strategy = \"through_server\" is now called "
            "\"parameter_server\"");
}

TEST(Renamed, KnowsKeysAndValues) {
  const Renamed table[] = {{"optimizer.rate", "", "optimizer.lr"},
                           {"optimizer.name", "momentum", "sgd"}};
  EXPECT_EQ(new_key("optimizer.rate", table), "optimizer.lr");
  EXPECT_EQ(new_key("optimizer.name", table), "");
  EXPECT_EQ(new_value("optimizer.name", "momentum", table), "sgd");
  EXPECT_EQ(new_value("optimizer.name", "", table), "");
  EXPECT_EQ(new_value("optimizer.rate", "", table), "");
}

TEST(Renamed, LeadsToNamesThatExist) {
  Config config;
  const std::vector<ConfigKey> keys = schema_of(config);
  for (const Renamed& entry : renamed()) {
    const auto name = entry.value.empty() ? entry.now : entry.key;
    const auto key = std::ranges::find(keys, name, &ConfigKey::name);
    ASSERT_NE(key, keys.end()) << name;
    if (entry.value.empty()) continue;
    std::string& text = *std::get<std::string*>(key->value);
    text = entry.now;
    EXPECT_FALSE(key->rule(key->value)) << entry.now;
    text = entry.value;
    EXPECT_TRUE(key->rule(key->value)) << entry.value;
  }
}

}  // namespace
}  // namespace trireme
