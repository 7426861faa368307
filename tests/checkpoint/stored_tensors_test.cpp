// What a path of `trireme checkpoint` may be, and what is known of it before values are read.
#include "trireme/checkpoint/stored_tensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "tests/checkpoint/layouts.h"
#include "tests/formats/error_of.h"
#include "trireme/base/error.h"
#include "trireme/checkpoint/convert.h"

namespace trireme::test {
namespace {

using testing::HasSubstr;

class TensorsOnDisk : public testing::Test {
 protected:
  TensorsOnDisk() { save_state("/run/checkpoints", Cutting::kColumns, 3, files_); }

  std::string path_of(const std::string& path) {
    return StoredTensors(path, files_).path().string();
  }

  MemoryFiles files_;
};

TEST_F(TensorsOnDisk, OfARunAreThoseOfItsNewestCheckpoint) {
  Changes later;
  later.state.step = 30;
  save_state("/run/checkpoints", Cutting::kWhole, 1, files_, 16, 6, later);
  for (const std::string path : {"/run", "/run/", "/run/checkpoints", "/run/checkpoints/step-30"}) {
    EXPECT_EQ(path_of(path), "/run/checkpoints/step-30");
  }
  EXPECT_EQ(path_of("/run/checkpoints/step-20/"), "/run/checkpoints/step-20");
  // Half written.
  files_.make_directory("/run/checkpoints/step-40.partial");
  files_.make_directory("/run/checkpoints/step-50");
  EXPECT_EQ(path_of("/run"), "/run/checkpoints/step-30");
}

TEST_F(TensorsOnDisk, OfACheckpointLieInTheRegionsThatRanksHad) {
  const StoredTensors stored("/run", files_);
  EXPECT_TRUE(stored.is_checkpoint());
  const Manifest::Tensor& tensor = stored.manifest().tensors.at("model.qkv");
  EXPECT_EQ(tensor.shape, (TensorShape{16, 6}));
  ASSERT_EQ(tensor.chunks.size(), 3u);
  EXPECT_EQ(to_string(tensor.chunks[1].region), "[:, 2:4]");
  const StateSizes sizes = sizes_of(stored);
  EXPECT_EQ(sizes.model.tensors, 2);
  EXPECT_EQ(sizes.model.elements, 96 + 3);
  EXPECT_EQ(sizes.model.bytes, 4 * 96 + 8 * 3);
  EXPECT_EQ(sizes.optimizer.bytes, 4 * 96 + 8);
  EXPECT_EQ(sizes.other.tensors, 0);
}

TEST_F(TensorsOnDisk, OfAModelAreWholeAndAllOfTheModel) {
  convert_checkpoint("/run", "/run/m.safetensors", {.file_bytes = 100}, files_);
  const StoredTensors stored("/run/m.safetensors", files_);
  EXPECT_FALSE(stored.is_checkpoint());
  EXPECT_EQ(stored.path(), "/run/m.safetensors.index.json");
  EXPECT_EQ(stored.manifest().files.size(), 2u);
  EXPECT_TRUE(stored.manifest().tensors.at("qkv").chunks.front().region.is_whole());
  EXPECT_EQ(sizes_of(stored).model.elements, 96 + 3);
}

TEST_F(TensorsOnDisk, OfTheOptimizersOfGroupsAreOptimizerState) {
  run_ranks(1, [&](Communicator& world) {
    const OwnedTensor<> first("group-1.optimizer.w.exp_avg", Region({5}));
    const OwnedTensor<> second("strategy.optimizer.w", Region({7}));
    save_checkpoint("/groups", world, {}, std::vector{first.tensor, second.tensor}, {.newest = 0},
                    files_);
  });
  const StateSizes sizes = sizes_of(StoredTensors("/groups", files_));
  EXPECT_EQ(sizes.optimizer.elements, 5);
  EXPECT_EQ(sizes.other.elements, 7);
}

TEST_F(TensorsOnDisk, ThatAManifestClaimsHaveAtMostTheLargestSize) {
  constexpr std::int64_t kMany = std::int64_t{1} << 61;
  Manifest manifest;
  manifest.files.push_back({"rank-0.safetensors", 0, ""});
  for (const std::string name : {"model.a", "model.b", "model.c", "model.d", "model.e"}) {
    entry(manifest, name, DType::kF64, TensorShape{kMany}).chunks.push_back({0, Region({kMany})});
  }
  make_directories("/claims", files_);
  write_file_atomically("/claims/rank-0.safetensors", "", files_);
  write_file_atomically("/claims/manifest.json", to_file(manifest), files_);
  StoredTensors stored("/claims", files_);
  EXPECT_EQ(sizes_of(stored).model.bytes, std::numeric_limits<std::int64_t>::max());
  EXPECT_EQ(sizes_of(stored).model.elements, std::numeric_limits<std::int64_t>::max());
  EXPECT_THROW(stored.verify({"model.a"}), DataError);
}

TEST_F(TensorsOnDisk, AreMissedByAnErrorThatNamesThePath) {
  const auto error = [&](const std::string& path) {
    return error_of<DataError>([&] { StoredTensors(path, files_); });
  };
  EXPECT_THAT(error("/nowhere"), HasSubstr("/nowhere: must be a checkpoint"));
  files_.make_directory("/empty");
  EXPECT_THAT(error("/empty"), HasSubstr("/empty: must be a checkpoint"));
  write_file_atomically("/run/notes.txt", "notes, not tensors", files_);
  EXPECT_THAT(error("/run/notes.txt"), HasSubstr("/run/notes.txt: not a safetensors file"));
}

}  // namespace
}  // namespace trireme::test
