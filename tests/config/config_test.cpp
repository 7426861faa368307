#include "trireme/config/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "trireme/base/error.h"

namespace trireme {
namespace {

using ::testing::HasSubstr;

std::string error_of(const std::string& toml, std::vector<std::string> overrides = {}) {
  try {
    parse_config(toml, "run.toml", overrides);
  } catch (const UsageError& error) {
    return error.what();
  }
  return "no error";
}

TEST(Config, ReadsEverySectionAndOverridesComeLast) {
  const std::vector<std::string> overrides = {"optimizer.lr=3e-4", "model.hidden=[8, 4]",
                                              "run.directory=out"};
  const Config config = parse_config("[optimizer]\nname = 'adam'\nlr = 1\n[training]\nsteps = 7\n",
                                     "run.toml", overrides);
  EXPECT_EQ(config.optimizer.name, "adam");
  EXPECT_EQ(config.optimizer.lr, 3e-4);
  EXPECT_EQ(config.training.steps, 7);
  EXPECT_EQ(config.model.hidden, (std::vector<std::int64_t>{8, 4}));
  EXPECT_EQ(config.run.directory, "out");
}

TEST(Config, TakesAnyOverrideOfATextAsText) {
  const std::vector<std::string> overrides = {"data.target=65", "run.directory='7'",
                                              "data.path=[1].csv"};
  const Config config = parse_config("", "run.toml", overrides);
  EXPECT_EQ(config.data.target, "65");
  EXPECT_EQ(config.run.directory, "7");
  EXPECT_EQ(config.data.path, "[1].csv");
}

TEST(Config, NamesFileLineColumnAndWhatWasWanted) {
  EXPECT_EQ(error_of("[optimizer]\nlr = \"fast\"\n"),
            "run.toml:2:6: optimizer.lr must be a number, got \"fast\"");
  EXPECT_EQ(error_of("[optimizer]\n\n  lr = -1.5"),
            "run.toml:3:8: optimizer.lr must be a positive number, got -1.5");
  EXPECT_EQ(error_of("[training]\nsteps = 1.5"),
            "run.toml:2:9: training.steps must be an integer, got 1.5");
  EXPECT_THAT(error_of("[data]\nsampler = 'shuffled'"),
              HasSubstr("data.sampler must be one of \"random\", \"block\", \"sequential\""));
}

TEST(Config, ReadsDurationsWithUnitsOrInSeconds) {
  const auto seconds = [](const std::string& toml, std::vector<std::string> overrides = {}) {
    return parse_config(toml, "run.toml", overrides).training.max_time.seconds;
  };
  EXPECT_EQ(seconds(""), 0);
  EXPECT_EQ(seconds("training.max_time = '3h30m'"), 12600);
  EXPECT_EQ(seconds("training.max_time = '1d2h3m4.5s'"), 93784.5);
  EXPECT_EQ(seconds("training.max_time = '90'"), 90);
  EXPECT_EQ(seconds("training.max_time = 90"), 90);
  EXPECT_EQ(seconds("training.max_time = 0.25"), 0.25);
  EXPECT_EQ(seconds("", {"training.max_time=90m"}), 5400);
  EXPECT_EQ(seconds("", {"training.max_time=1e2"}), 100);
  for (const char* wrong : {"''", "'m'", "'3x'", "'3h30'", "'3m2h'", "'5s5s'", "'5 s'", "true"}) {
    EXPECT_THAT(
        error_of(std::string("training.max_time = ") + wrong),
        HasSubstr("training.max_time must be a duration such as \"3h30m\", or seconds, got "))
        << wrong;
  }
  EXPECT_THAT(error_of("training.max_time = '-3h'"),
              HasSubstr("must be zero or a positive number"));
  EXPECT_THAT(error_of("training.max_time = inf"), HasSubstr("must be zero or a positive number"));
}

TEST(Config, WritesDurationsThatReadBack) {
  for (const double seconds : {0.0, 1e-7, 0.1, 59.0, 60.0, 12600.0, 93784.5, 86400.0 * 400, 1e17}) {
    Config config;
    config.training.max_time.seconds = seconds;
    const std::string text = to_toml(config);
    EXPECT_EQ(parse_config(text, "run.toml", {}).training.max_time.seconds, seconds) << text;
  }
  Config config;
  config.training.max_time.seconds = 12600;
  EXPECT_THAT(to_toml(config), HasSubstr("\nmax_time = '3h30m'\n"));
}

TEST(Config, NamesTheKeyThatWasMeant) {
  EXPECT_EQ(error_of("[optimiser]\nlr = 1\n"),
            "run.toml:1:1: unknown key optimiser; did you mean optimizer?");
  EXPECT_EQ(error_of("[optimizer]\nlearning_rate = 1\nmomentun = 0.5"),
            "run.toml:2:17: unknown key optimizer.learning_rate; `trireme keys` lists them");
  EXPECT_THAT(error_of("[optimizer]\nmomentun = 0.5"),
              HasSubstr("did you mean optimizer.momentum?"));
  EXPECT_THAT(error_of("", {"training.step=5"}),
              HasSubstr("command line: unknown key training.step; did you mean training.steps?"));
}

TEST(Config, NamesTheSectionOfAKeyThatStandsAlone) {
  EXPECT_EQ(error_of("lr = 1"), "run.toml:1:6: unknown key lr; did you mean optimizer.lr?");
}

TEST(Config, RefusesNumbersThatWouldOverflow) {
  EXPECT_THAT(error_of("", {"training.virtual_workers=4294967297"}),
              HasSubstr("must be a number from 0 to 65536, got 4294967297"));
  EXPECT_THAT(error_of("", {"training.epochs=9223372036854775807"}),
              HasSubstr("must be a number from 1 to 1000000"));
  EXPECT_THAT(error_of("", {"training.threads=100000"}), HasSubstr("a number from 0 to 1024"));
  EXPECT_THAT(error_of("", {"communication.timeout=1e300"}), HasSubstr("a number of seconds"));
  EXPECT_THAT(error_of("", {"model.hidden=[8, 99999999999]"}), HasSubstr("got [8, 99999999999]"));
  EXPECT_THAT(error_of("", {"run.directory=''"}), HasSubstr("must be a path, got \"\""));
}

TEST(Config, RefusesWhatIsNoToml) {
  EXPECT_THAT(error_of("[optimizer\nlr = 1"), HasSubstr("run.toml:1:"));
  EXPECT_THAT(error_of("", {"verbose"}), HasSubstr("section.key=value, got \"verbose\""));
}

TEST(Config, WritesWhatItReads) {
  const std::vector<std::string> overrides = {"data.format=csv", "data.path=a\"b\\c.csv",
                                              "optimizer.lr=1e-5", "data.features=['a', 'b']",
                                              "communication.timeout=5"};
  const Config config = parse_config("", "defaults", overrides);
  const std::string toml = to_toml(config);
  const Config again = parse_config(toml, "again", {});
  EXPECT_EQ(to_toml(again), toml);
  EXPECT_EQ(again.data.path, "a\"b\\c.csv");
  EXPECT_EQ(again.optimizer.lr, 1e-5);
  EXPECT_EQ(again.data.features, (std::vector<std::string>{"a", "b"}));
}

TEST(Config, ReadsGroupsOfParameters) {
  const Config config = parse_config(
      "[optimizer]\nname = 'adamw'\n[[optimizer.groups]]\nkind = 'bias_and_norm'\n"
      "weight_decay = 0\n[[optimizer.groups]]\nmatch = 'head.*'\nlr_factor = 0.1\n"
      "betas = [0.8, 0.9]\ntrainable = false\n",
      "run.toml", {});
  const auto& groups = config.optimizer.groups;
  ASSERT_EQ(groups.size(), 2u);
  EXPECT_EQ(groups[0].kind, "bias_and_norm");
  EXPECT_EQ(groups[0].weight_decay, 0);
  EXPECT_TRUE(groups[0].trainable);
  EXPECT_EQ(groups[1].match, "head.*");
  EXPECT_EQ(groups[1].lr_factor, 0.1);
  EXPECT_EQ(groups[1].weight_decay, std::nullopt);
  EXPECT_EQ(groups[1].betas, (std::vector<double>{0.8, 0.9}));
  EXPECT_FALSE(groups[1].trainable);
}

TEST(Config, ReadsGroupsOfTheCommandLine) {
  const std::vector<std::string> overrides = {
      "optimizer.groups=[{kind=\"bias\", weight_decay=0}, {match='*.weight', lr_factor=2}]"};
  const Config config =
      parse_config("[[optimizer.groups]]\nkind = 'norm'\n", "run.toml", overrides);
  ASSERT_EQ(config.optimizer.groups.size(), 2u);
  EXPECT_EQ(config.optimizer.groups[0].kind, "bias");
  EXPECT_EQ(config.optimizer.groups[1].lr_factor, 2);
}

TEST(Config, NamesTheGroupAndTheKeyThatIsWrong) {
  EXPECT_EQ(
      error_of("[[optimizer.groups]]\nkind = 'bias'\nweight_decay = -1\n"),
      "run.toml:3:16: optimizer.groups[0].weight_decay must be zero or a positive number, got "
      "-1");
  EXPECT_EQ(error_of("[[optimizer.groups]]\nkind = 'bias'\n[[optimizer.groups]]\nmach = 'a'\n"),
            "run.toml:4:8: unknown key optimizer.groups[1].mach; did you mean match?");
  EXPECT_THAT(error_of("", {"optimizer.groups=[{kind='biases'}]"}),
              HasSubstr("command line: optimizer.groups[0].kind must be one of \"\", \"bias\""));
  EXPECT_EQ(error_of("[optimizer.groups]\nkind = 'bias'\n"),
            "run.toml:1:1: optimizer.groups must be a list of groups, got a section");
}

TEST(Config, DescribesEveryKeyOnce) {
  std::vector<std::string> names;
  for (const KeyDescription& key : config_keys()) names.push_back(key.name);
  EXPECT_GT(names.size(), 50u);
  std::sort(names.begin(), names.end());
  EXPECT_EQ(std::adjacent_find(names.begin(), names.end()), names.end());
}

}  // namespace
}  // namespace trireme
