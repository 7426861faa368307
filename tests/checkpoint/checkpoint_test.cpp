#include "trireme/checkpoint/checkpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <fstream>

#include "tests/checkpoint/tensors.h"
#include "tests/comm/ranks.h"
#include "tests/formats/error_of.h"
#include "tests/formats/temporary_folder.h"
#include "trireme/base/error.h"
#include "trireme/base/files.h"
#include "trireme/base/partition.h"
#include "trireme/base/sha256.h"
#include "trireme/formats/safetensors.h"

namespace trireme {
namespace {

namespace fs = std::filesystem;
using test::counted;
using test::OwnedTensor;
using testing::HasSubstr;

OwnedTensor<> slice_of_rank(const std::string& name, const std::vector<std::int64_t>& shape,
                            std::int64_t count, int ranks, int rank) {
  const Range range = partition(count, ranks, rank);
  return {name, shape, range.begin, range.size()};
}

// A matrix [7, 11] of 0, 1, 2, ... in slices, a whole vector on rank 0 and a counter on all ranks.
void save_matrix(const fs::path& directory, int ranks, const RunState& state) {
  test::run_ranks(ranks, [&](Communicator& world) {
    OwnedTensor<> slice = slice_of_rank("matrix", {7, 11}, 77, ranks, world.rank());
    test::count_from(slice.values, static_cast<float>(slice.offset()));
    OwnedTensor<std::int64_t> counter("counter", {}, 0, 1, 42);
    OwnedTensor<double> vector("vector", {3}, 0, 3, 0.25);
    std::vector<StateTensor> mine = {slice.tensor, counter.tensor};
    if (world.rank() == 0) mine.push_back(vector.tensor);
    save_checkpoint(directory, world, state, mine, {.newest = 2});
  });
}

void expect_matrix(const fs::path& step_directory, int ranks) {
  for (int rank = 0; rank < ranks; ++rank) {
    const OwnedTensor<> slice = slice_of_rank("matrix", {7, 11}, 77, ranks, rank);
    const OwnedTensor<std::int64_t> counter("counter", {}, 0, 1);
    const OwnedTensor<double> vector("vector", {3}, 0, 3);
    load_checkpoint(step_directory, std::vector{slice.tensor, counter.tensor, vector.tensor});
    EXPECT_EQ(slice.values, counted(slice.values.size(), static_cast<float>(slice.offset())));
    EXPECT_EQ(counter.values[0], 42);
    EXPECT_THAT(vector.values, testing::Each(0.25));
  }
}

TEST(Checkpoint, WrittenByFourRanksLoadsOnThree) {
  const TemporaryFolder folder;
  save_matrix(folder.path(), 4, {});
  expect_matrix(folder.path() / "step-0", 3);
}

TEST(Checkpoint, WrittenByAnyNumberOfRanksLoadsOnAnyOther) {
  for (const int writers : {1, 2, 3, 4, 6}) {
    const TemporaryFolder folder;
    save_matrix(folder.path(), writers, {});
    for (const int readers : {1, 2, 3, 5}) expect_matrix(folder.path() / "step-0", readers);
  }
}

TEST(Checkpoint, KeepsTheStateOfTheRun) {
  const TemporaryFolder folder;
  save_matrix(folder.path(), 2, {12, {{"seed", "7"}, {"note", "\"quoted\"\nünïcode"}}});
  const RunState state = load_checkpoint(folder.path() / "step-12", {});
  EXPECT_EQ(state.step, 12);
  EXPECT_THAT(state.metadata, testing::ElementsAre(testing::Pair("note", "\"quoted\"\nünïcode"),
                                                   testing::Pair("seed", "7")));
}

TEST(Checkpoint, SaysWhichTensorsItHolds) {
  const TemporaryFolder folder;
  save_matrix(folder.path(), 3, {});
  EXPECT_THAT(tensors_of_checkpoint(folder.path() / "step-0"),
              testing::ElementsAre(testing::Pair("counter", testing::_),
                                   testing::Pair("matrix", testing::_),
                                   testing::Pair("vector", testing::_)));
  EXPECT_THROW(tensors_of_checkpoint(folder.path() / "step-1"), DataError);
}

TEST(Checkpoint, IsOrdinarySafetensorsFiles) {
  const TemporaryFolder folder;
  save_matrix(folder.path(), 2, {});
  const SafetensorsFile first(folder.path() / "step-0" / "rank-0.safetensors");
  EXPECT_THAT(first.names(), testing::UnorderedElementsAre("matrix[0:39]", "counter", "vector"));
  EXPECT_EQ(first.info("matrix[0:39]").shape, std::vector<std::int64_t>{39});
  save_matrix(folder.path(), 1, {1, {}});
  const SafetensorsFile whole(folder.path() / "step-1" / "rank-0.safetensors");
  EXPECT_EQ(whole.info("matrix").shape, (std::vector<std::int64_t>{7, 11}));
}

// docs/format/checkpoint.md
TEST(Checkpoint, IsToTheByteTheExampleOfItsDescription) {
  const TemporaryFolder folder;
  test::run_ranks(2, [&](Communicator& world) {
    const std::int64_t first = 2 * world.rank();
    OwnedTensor<> columns("model.weight", Region({2, 4}, {{1, {{first, first + 2}}}}));
    test::fill_by_place(columns, [](auto place) { return place; });
    const OwnedTensor<std::int64_t> counter("optimizer.weight.step", {1}, 0, 1, 20);
    save_checkpoint(folder.path(), world,
                    {.step = 20,
                     .metadata = {{"seed", "7"}},
                     .sections = {{sections::kPrecision, {{"loss_scale", 65536.0}}}}},
                    std::vector{columns.tensor, counter.tensor}, {.newest = 3});
  });
  const fs::path step = folder.path() / "step-20";
  EXPECT_EQ(sha256_of_file(step / "rank-1.safetensors"),
            "2bfe741daae1599026365271466c526710c4389d89e9c0198f3cbf1241c256e1");
  EXPECT_THAT(
      read_file(step / "manifest.json"),
      HasSubstr(
          "\n \"sha256\": \"da6b8f422a06c2645b580e6c803c5923e789e54999cf92cb8d9ff35e0eb78fde\"\n"));
}

TEST(Checkpoint, OfReplicasIsWrittenByOneRankAlone) {
  const TemporaryFolder folder;
  test::run_ranks(3, [&](Communicator& world) {
    const OwnedTensor<> tensor("weight", {5}, 0, 5, 3);
    const auto mine = std::span(&tensor.tensor, world.rank() == 0 ? 1 : 0);
    save_checkpoint(folder.path(), world, {1, {}}, mine, {.newest = 1});
  });
  EXPECT_FALSE(fs::exists(folder.path() / "step-1" / "rank-1.safetensors"));
  const OwnedTensor<> tensor("weight", {5}, 0, 5);
  load_checkpoint(folder.path() / "step-1", std::span(&tensor.tensor, 1));
  EXPECT_THAT(tensor.values, testing::Each(3));
}

TEST(Checkpoint, TakesEmptySlicesAndEmptyTensors) {
  const TemporaryFolder folder;
  test::run_ranks(3, [&](Communicator& world) {
    const OwnedTensor<> tensor("weight", {1}, world.rank() == 0 ? 0 : 1, world.rank() == 0 ? 1 : 0);
    const OwnedTensor<> none("none", {4, 0}, 0, 0);
    save_checkpoint(folder.path(), world, {}, std::vector{tensor.tensor, none.tensor},
                    {.newest = 1});
  });
  const OwnedTensor<> tensor("weight", {1}, 0, 1, 5);
  const OwnedTensor<> none("none", {4, 0}, 0, 0);
  load_checkpoint(folder.path() / "step-0", std::vector{tensor.tensor, none.tensor});
  EXPECT_EQ(tensor.values[0], -1);
}

TEST(Checkpoint, KeepsTheNewestAndLeavesOtherFilesAlone) {
  const TemporaryFolder folder;
  for (const char* other : {"step-1.txt", "step-01", "step-", "notes"}) folder.write(other, "mine");
  fs::create_directory(folder.path() / "step-7");  // without a manifest: not a checkpoint
  EXPECT_FALSE(latest_checkpoint(folder.path()));
  for (const std::int64_t step : {5, 100, 20, 30}) save_matrix(folder.path(), 1, {step, {}});
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder.path())) {
    names.push_back(entry.path().filename());
  }
  // That of a later step is no part of what the run has come to: it does not count.
  EXPECT_THAT(names, testing::UnorderedElementsAre("step-1.txt", "step-01", "step-", "notes",
                                                   "step-7", "step-20", "step-30", "step-100"));
  EXPECT_EQ(latest_checkpoint(folder.path()), folder.path() / "step-100");
  EXPECT_FALSE(latest_checkpoint(folder.path() / "nowhere"));
}

TEST(Checkpoint, ClearsAwayWhatAKilledWriterLeft) {
  const TemporaryFolder folder;
  const fs::path partial = folder.path() / "step-3.partial";
  fs::create_directories(partial);
  for (const char* name :
       {"rank-0.safetensors", "rank-12.safetensors.partial-77", "manifest.json.partial-1"}) {
    std::ofstream(partial / name) << "torn";
  }
  save_matrix(folder.path(), 2, {4, {}});
  EXPECT_FALSE(fs::exists(partial));
}

// Everything that a user may have put where checkpoints lie.
TEST(Checkpoint, RemovesNothingThatIsNotItsOwn) {
  const TemporaryFolder folder, elsewhere;
  save_matrix(folder.path(), 1, {1, {}});
  save_matrix(elsewhere.path(), 1, {2, {}});
  fs::create_directory_symlink(elsewhere.path() / "step-2", folder.path() / "step-2");
  fs::create_directory_symlink(elsewhere.path() / "step-2", folder.path() / "step-3.partial");
  fs::create_directories(folder.path() / "step-4.partial" / "rank-0.safetensors");
  const std::vector<fs::path> others = {
      "step-1/notes.txt", "step-1/rank-.safetensors", "step-1/rank-0.safetensors.orig",
      "step-4.partial/manifest.json.partial-", "step-4.partial/rank-0.safetensors/inside"};
  for (const fs::path& name : others) std::ofstream(folder.path() / name) << "of the user";
  for (const std::int64_t step : {5, 6, 7}) save_matrix(folder.path(), 1, {step, {}});
  std::string kept;
  for (const auto& entry : fs::recursive_directory_iterator(folder.path())) {
    if (entry.is_regular_file()) kept += fs::file_size(entry) == 11 ? "1" : "";
  }
  EXPECT_EQ(kept, "11111");
  expect_matrix(elsewhere.path() / "step-2", 1);
  expect_matrix(folder.path() / "step-2", 1);
  EXPECT_FALSE(fs::exists(folder.path() / "step-5"));
}

// Between the two renames of a replacement.
TEST(Checkpoint, ThatWasBeingReplacedIsFoundAndCompleted) {
  const TemporaryFolder folder;
  save_matrix(folder.path(), 2, {3, {}});
  fs::rename(folder.path() / "step-3", folder.path() / "step-3.replaced");
  EXPECT_EQ(latest_checkpoint(folder.path()), folder.path() / "step-3.replaced");
  expect_matrix(folder.path() / "step-3.replaced", 3);
  save_matrix(folder.path(), 2, {4, {}});
  expect_matrix(folder.path() / "step-3", 3);
  EXPECT_FALSE(fs::exists(folder.path() / "step-3.replaced"));
}

TEST(Checkpoint, RefusesRegionsThatDoNotCoverTheirTensorOnEveryRank) {
  const TemporaryFolder folder;
  const auto refusal = [&](std::int64_t offset_of_rank_1, std::int64_t size) {
    std::vector<std::string> errors(2);
    test::run_ranks(2, [&](Communicator& world) {
      const OwnedTensor<> half("weight", {size}, world.rank() * offset_of_rank_1, 5);
      errors[static_cast<std::size_t>(world.rank())] = error_of<UsageError>([&] {
        save_checkpoint(folder.path(), world, {}, std::span(&half.tensor, 1), {.newest = 1});
      });
    });
    EXPECT_EQ(errors[0], errors[1]);
    EXPECT_TRUE(fs::is_empty(folder.path()));
    return errors[0];
  };
  EXPECT_THAT(refusal(4, 10), HasSubstr("\"weight\": chunks overlap: elements 4 to 5 lie in two"));
  EXPECT_THAT(refusal(6, 11), HasSubstr("\"weight\": no chunk has elements 5 to 6 of 11"));
  EXPECT_THAT(refusal(5, 12), HasSubstr("\"weight\": no chunk has elements 10 to 12 of 12"));
}

TEST(Checkpoint, RefusesValuesThatDoNotFillTheirRegion) {
  const TemporaryFolder folder;
  OwnedTensor<> half("weight", {10}, 0, 5);
  half.tensor.region = Region({10});
  test::run_ranks(1, [&](Communicator& world) {
    EXPECT_THAT(error_of<UsageError>([&] {
                  save_checkpoint(folder.path(), world, {}, std::span(&half.tensor, 1),
                                  {.newest = 1});
                }),
                HasSubstr("must have the 10 values of its region of f32[10], got 5"));
  });
}

TEST(Checkpoint, RefusesRanksThatDisagree) {
  const TemporaryFolder folder;
  test::run_ranks(2, [&](Communicator& world) {
    const std::string steps = error_of<UsageError>([&] {
      save_checkpoint(folder.path(), world, {world.rank(), {}}, {}, {.newest = 1});
    });
    EXPECT_THAT(steps, HasSubstr("rank 0 is at step 0, rank 1 at step 1"));
    const OwnedTensor<> half("weight", {10, 1 + world.rank()}, world.rank() * 5, 5);
    const std::string shapes = error_of<UsageError>([&] {
      save_checkpoint(folder.path(), world, {}, std::span(&half.tensor, 1), {.newest = 1});
    });
    EXPECT_THAT(shapes, HasSubstr("\"weight\" is given as f32[10, 1] and as f32[10, 2]"));
    EXPECT_THROW(save_checkpoint(folder.path(), world, {-1, {}}, {}, {.newest = 1}), UsageError);
  });
}

class SavedCheckpoint : public testing::Test {
 protected:
  SavedCheckpoint() { save_matrix(folder_.path(), 2, {9, {}}); }

  fs::path step() const { return folder_.path() / "step-9"; }

  template <class Expected = DataError, class T>
  std::string refusal(const OwnedTensor<T>& wanted) const {
    const OwnedTensor<> good("matrix", {7, 11}, 0, 77);
    const std::string error = error_of<Expected>([&] {
      load_checkpoint(step(), std::vector{good.tensor, wanted.tensor});
    });
    EXPECT_THAT(good.values, testing::Each(-1)) << "a piece was changed";
    return error;
  }

  TemporaryFolder folder_;
};

TEST_F(SavedCheckpoint, SaysWhichTensorIsMissingOrDiffers) {
  EXPECT_THAT(refusal<UsageError>(OwnedTensor<>("bias", {3}, 0, 3)),
              HasSubstr("no tensor \"bias\" among the 3 of this checkpoint"));
  EXPECT_THAT(refusal<UsageError>(OwnedTensor<>("vector", {3}, 0, 3)),
              HasSubstr("\"vector\" was written as f64[3], the model or optimizer has f32[3]"));
  EXPECT_THAT(refusal<UsageError>(OwnedTensor<double>("vector", {4}, 0, 4)),
              HasSubstr("was written as f64[3], the model or optimizer has f64[4]"));
  OwnedTensor<double> short_of_memory("vector", {3}, 0, 2);
  short_of_memory.tensor.region = Region({3});
  EXPECT_THAT(refusal<UsageError>(short_of_memory),
              HasSubstr("must have memory for the 3 elements of its region, got 2"));
}

TEST_F(SavedCheckpoint, NoticesDamageOfEveryByte) {
  const fs::path path = step() / "rank-1.safetensors";
  const auto size = static_cast<std::streamoff>(fs::file_size(path));
  for (std::streamoff at = 0; at < size; ++at) {
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    const auto flip = [&] {
      file.seekg(at);
      const char byte = static_cast<char>(file.get());
      file.seekp(at);
      file.put(static_cast<char>(byte ^ 1)).flush();
    };
    flip();
    const std::string error = refusal(OwnedTensor<>("matrix", {7, 11}, 40, 1));
    ASSERT_THAT(error, HasSubstr("rank-1.safetensors: the file is damaged: its SHA-256")) << at;
    flip();
  }
  expect_matrix(step(), 1);
}

TEST_F(SavedCheckpoint, NamesTheFileThatIsMissingOrShort) {
  const OwnedTensor<> wanted("matrix", {7, 11}, 0, 77);
  fs::resize_file(step() / "rank-1.safetensors", 50);
  EXPECT_THAT(refusal(wanted), HasSubstr("bytes, got 50"));
  fs::remove(step() / "rank-1.safetensors");
  EXPECT_THAT(refusal(wanted), HasSubstr("rank-1.safetensors: must be a file, there is none"));
  const OwnedTensor<> first("matrix", {7, 11}, 0, 39);
  load_checkpoint(step(), std::span(&first.tensor, 1));  // lies in the other file
  fs::remove(step() / "manifest.json");
  EXPECT_THAT(refusal(wanted), HasSubstr("manifest.json: must be a file, there is none"));
}

TEST_F(SavedCheckpoint, WithAFifoIsAnErrorAndDoesNotWait) {
  const OwnedTensor<> wanted("matrix", {7, 11}, 0, 77);
  for (const char* name : {"rank-1.safetensors", "manifest.json"}) {
    fs::remove(step() / name);
    ASSERT_EQ(::mkfifo((step() / name).c_str(), 0600), 0);
    EXPECT_THAT(refusal(wanted), HasSubstr("must be a file, got a FIFO"));
  }
  EXPECT_FALSE(latest_checkpoint(folder_.path()));
}

}  // namespace
}  // namespace trireme
