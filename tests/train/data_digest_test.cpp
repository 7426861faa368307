// A run knows its data: other data is refused, between ranks and between a run and its resumption.

#include "trireme/train/data_digest.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "tests/comm/ranks.h"
#include "tests/train/runs.h"
#include "tests/train/samples.h"
#include "trireme/base/error.h"
#include "trireme/base/files.h"

namespace trireme::test {
namespace {

using testing::AllOf;
using testing::Contains;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::ThrowsMessage;

Config csv_config(const std::filesystem::path& train, const std::filesystem::path& test = "") {
  Config config;
  config.data.format = "csv";
  config.data.path = train.string();
  config.data.test_path = test.string();
  return config;
}

TEST(DataDigest, ChangesWithEachByteOfEachCsvFile) {
  const TemporaryFolder folder;
  const auto train = folder.path() / "train.csv", test = folder.path() / "test.csv";
  const std::string table = "x,y\n1,2\n3,4\n";
  std::set<std::string> digests;
  const auto note = [&](const std::string& of_train, const std::string& of_test) {
    write_file_atomically(train, of_train);
    write_file_atomically(test, of_test);
    const DataDigest digest = digest_of_data(csv_config(train, test));
    EXPECT_EQ(digest.covers, "all bytes");
    EXPECT_EQ(digest.value.size(), 32u);
    return digests.insert(digest.value).second;
  };
  EXPECT_TRUE(note(table, table));
  EXPECT_FALSE(note(table, table)) << "the same files";
  for (std::size_t i = 0; i < table.size(); ++i) {
    std::string other = table;
    other[i] ^= 1;
    EXPECT_TRUE(note(other, table)) << "byte " << i;
    EXPECT_TRUE(note(table, other)) << "byte " << i << " of the test file";
  }
  EXPECT_TRUE(note(table + "5,6\n", table));
  // What one file loses and the other gains.
  EXPECT_TRUE(note("x,y\n1,2\n", "x,y\n1,2\n3,4\n3,4\n"));
}

TEST(DataDigest, OfALargeMappedFileReadsSizeAndBlocks) {
  const TemporaryFolder folder;
  const auto images = folder.path() / "images", labels = folder.path() / "labels";
  write_file_atomically(labels, "labels");
  write_file_atomically(images, "images");
  Config config;
  config.data.format = "idx";
  config.data.images = images.string();
  config.data.labels = labels.string();
  const auto digest = [&] { return digest_of_data(config); };
  EXPECT_EQ(digest().covers, "all bytes");

  constexpr std::int64_t kSize = std::int64_t{200} << 20;
  std::filesystem::resize_file(images, kSize);  // a hole, which takes no room
  const DataDigest before = digest();
  EXPECT_EQ(before.covers, "the size and 64 blocks of 1 MiB");
  const auto write_at = [&](std::int64_t at) {
    std::fstream file(images, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(at);
    file.put('x');
    file.close();
    const bool differs = digest().value != before.value;
    std::fstream undo(images, std::ios::in | std::ios::out | std::ios::binary);
    undo.seekp(at);
    undo.put(at < 6 ? "images"[at] : '\0');
    return differs;
  };
  EXPECT_TRUE(write_at(0));
  EXPECT_TRUE(write_at(kSize - 1));
  EXPECT_TRUE(write_at((kSize - (1 << 20)) / 63 * 17 + 1000));
  EXPECT_EQ(digest().value, before.value);
  std::filesystem::resize_file(images, kSize + 1);
  EXPECT_NE(digest().value, before.value);
}

TEST(DataDigest, OfGeneratedDataIsEmpty) {
  EXPECT_EQ(digest_of_data(Config{}).value, "");
}

TEST(DataDigest, OfFilesThatAreNotThereIsAnError) {
  EXPECT_THAT([] { digest_of_data(csv_config("/nowhere/table.csv")); },
              ThrowsMessage<DataError>(HasSubstr("/nowhere/table.csv")));
}

TEST(DataDigest, ThatDiffersBetweenRanksIsAnErrorOnEachOfThem) {
  for (const int ranks : {2, 3, 4}) {
    run_ranks(ranks, [&](Communicator& world) {
      const bool differs = world.rank() == world.size() - 1;
      EXPECT_THAT(
          [&] {
            require_same_data({differs ? "bb" : "aa", "all bytes"}, world);
          },
          ThrowsMessage<UsageError>(
              AllOf(HasSubstr("aa on rank 0"),
                    HasSubstr(fmt::format("bb on rank {}; copy", ranks - 1)))));
      require_same_data({"aa", "all bytes"}, world);
    });
  }
}

class ResumedData : public testing::Test {
 protected:
  ResumedData() {
    write_table(runs_ / "table.csv", 64);
    runs_.train("run", 2, words_ + Words{"training.steps=6"}, {.rank = 0, .step = 4});
  }

  Runs runs_;
  Words words_{"data.format=csv",
               "data.path=" + (runs_ / "table.csv").string(),
               "data.target=y",
               "data.holdout=0",
               "training.global_batch=16",
               "training.virtual_workers=4"};
};

TEST_F(ResumedData, ThatHasChangedIsRefusedUnlessItIsMeant) {
  const Words words = words_ + Words{"training.steps=6"};
  const std::string table = read_file(runs_ / "table.csv");
  write_file_atomically(runs_ / "table.csv", table + "1,2,3,4\n");
  EXPECT_THAT([&] { runs_.resume("run", 2, words); },
              ThrowsMessage<UsageError>(AllOf(HasSubstr("was trained on other data"),
                                              HasSubstr("--allow-changed-data"))));
  const Outcome outcome = runs_.resume_on_changed_data("run", 2, words);
  EXPECT_THAT(outcome.ranks[0].warnings, Contains(HasSubstr("was trained on other data")));
  EXPECT_EQ(outcome.summaries[0].steps, 6);
}

TEST_F(ResumedData, ThatLiesElsewhereIsTheSame) {
  std::filesystem::rename(runs_ / "table.csv", runs_ / "moved.csv");
  const Outcome outcome = runs_.resume(
      "run", 3, words_ + Words{"training.steps=6", "data.path=" + (runs_ / "moved.csv").string()});
  EXPECT_THAT(outcome.ranks[0].warnings, IsEmpty());
}

TEST(ResumedSchedule, ThatEndsElsewhereSaysSo) {
  Runs runs;
  const Words cosine = {"lr_scheduler.name=cosine", "optimizer.lr=0.1"};
  runs.train("run", 2, cosine + Words{"training.steps=20"});
  const Outcome longer = runs.resume("run", 2, cosine + Words{"training.steps=40"});
  EXPECT_THAT(longer.ranks[0].warnings,
              Contains(AllOf(HasSubstr("after step 20, and now after step 40"),
                             HasSubstr("goes on with 0.05"))));
  runs.train("constant", 2, {"training.steps=20"});
  EXPECT_THAT(runs.resume("constant", 2, {"training.steps=40"}).ranks[0].warnings, IsEmpty());
}

}  // namespace
}  // namespace trireme::test
