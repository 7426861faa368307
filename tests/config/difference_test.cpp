#include "trireme/config/difference.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace trireme {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

Config config_of(const std::vector<std::string>& words) {
  return parse_config("", "test", words);
}

std::vector<std::string> texts(const Config& config, const Config& other) {
  std::vector<std::string> texts;
  for (const KeyDifference& difference : differences(config, other)) {
    texts.push_back(difference.key + ": " + difference.value + ", " + difference.other);
  }
  return texts;
}

TEST(Differences, NameKeysAndBothValues) {
  EXPECT_THAT(texts(config_of({"optimizer.lr=0.5", "training.shares=[1,2]"}),
                    config_of({"data.sampler=block"})),
              ElementsAre("data.sampler: 'random', 'block'", "training.shares: [1.0, 2.0], []",
                          "optimizer.lr: 0.5, 0.01"));
  EXPECT_THAT(texts(config_of({"optimizer.groups=[{match=\"a\",lr_factor=2}]"}), config_of({})),
              ElementsAre("optimizer.groups: [{match = 'a', lr_factor = 2.0}], []"));
}

TEST(Differences, AreNoneInTheDirectoryAndInKeysThatAreNotUsed) {
  EXPECT_THAT(texts(config_of({"run.directory=a"}), config_of({"run.directory=b"})), IsEmpty());
  EXPECT_THAT(texts(config_of({"optimizer.name=adam"}), config_of({"optimizer.name=adam"})),
              IsEmpty());
  EXPECT_THAT(texts(config_of({"optimizer.name=adam"}), config_of({"optimizer.momentum=0.5"})),
              ElementsAre("optimizer.name: 'adam', 'sgd'"));
}

TEST(AbsolutePaths, AreThoseOfFilesOnly) {
  const Config config = with_absolute_paths(
      config_of({"run.directory=out", "data.path=../d.csv", "data.test_path=/t.csv",
                 "model.path=m.pt", "communication.server_keys=[\"a.key\"]",
                 "communication.interface=eth0"}),
      "/home/user");
  EXPECT_EQ(config.data.path, "/home/d.csv");
  EXPECT_EQ(config.data.test_path, "/t.csv");
  EXPECT_EQ(config.data.images, "");
  EXPECT_EQ(config.model.path, "/home/user/m.pt");
  EXPECT_THAT(config.communication.servers.server_keys, ElementsAre("/home/user/a.key"));
  EXPECT_EQ(config.communication.transport.interface, "eth0");
  EXPECT_EQ(config.run.directory, "out");
  EXPECT_EQ(config.data.tokenizer, "characters");
  EXPECT_EQ(with_absolute_paths(config_of({"data.tokenizer=t.json"}), "/home/user").data.tokenizer,
            "/home/user/t.json");
}

}  // namespace
}  // namespace trireme
