// Tensors that ranks hold as regions of any kind: saved by some ranks and loaded by others.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "tests/base/random_region.h"
#include "tests/checkpoint/tensors.h"
#include "tests/comm/ranks.h"
#include "tests/formats/temporary_folder.h"
#include "trireme/base/layout.h"
#include "trireme/formats/safetensors.h"

namespace trireme {
namespace {

namespace fs = std::filesystem;
using test::OwnedTensor;

Layout column_cut() {
  return {.full_shape = {96, 130}, .cuts = {{.dim = 1, .axis = "tensor"}}};
}

// Four query heads share two heads of keys and values.
Layout fused_qkv() {
  return {.full_shape = {64 + 32 + 32, 96},
          .cuts = {{.dim = 0, .axis = "tensor", .parts = {64, 32, 32}}}};
}

// What a rank holds of a parameter and of the state that an optimizer has for it.
struct Parameter {
  explicit Parameter(const Region& region)
      : weight("model.w", region),
        mean("optimizer.w.exp_avg", region),
        step("optimizer.w.step", {1}, 0, 1) {}

  void fill() {
    test::fill_by_place(weight, weight_at);
    test::fill_by_place(mean, mean_at);
    step.values = {17};
  }

  void expect_filled() const {
    Parameter expected(weight.tensor.region);
    expected.fill();
    EXPECT_EQ(weight.values, expected.weight.values);
    EXPECT_EQ(mean.values, expected.mean.values);
    EXPECT_EQ(step.values, expected.step.values);
  }

  std::vector<StateTensor> state() const { return {weight.tensor, mean.tensor, step.tensor}; }

  static double weight_at(std::int64_t place) { return static_cast<double>(place); }
  static double mean_at(std::int64_t place) { return 1e6 - 0.5 * static_cast<double>(place); }

  OwnedTensor<> weight;
  OwnedTensor<double> mean;
  OwnedTensor<std::int64_t> step;
};

// Rank r of a mesh of one axis.
Coordinates on(const std::string& axis, int rank, int ranks) {
  return {{.axis = axis, .index = rank, .size = ranks}};
}

void save(const fs::path& folder, const Layout& layout, int ranks) {
  test::run_ranks(ranks, [&](Communicator& world) {
    Parameter parameter(region_of(layout, on("tensor", world.rank(), ranks)));
    parameter.fill();
    save_checkpoint(folder, world, {}, parameter.state(), {.newest = 1});
  });
}

void expect_loads(const fs::path& folder, const Layout& layout, int ranks) {
  for (int rank = 0; rank < ranks; ++rank) {
    const Parameter parameter(region_of(layout, on("tensor", rank, ranks)));
    load_checkpoint(folder / "step-0", parameter.state());
    parameter.expect_filled();
  }
}

TEST(CheckpointRegions, OfAColumnCutSavedByTwoLoadWholeOnOne) {
  const TemporaryFolder folder;
  save(folder.path(), column_cut(), 2);
  expect_loads(folder.path(), column_cut(), 1);
}

TEST(CheckpointRegions, OfAColumnCutLoadOnAnyNumberOfRanks) {
  for (const int writers : {1, 2, 3}) {
    const TemporaryFolder folder;
    save(folder.path(), column_cut(), writers);
    for (const int readers : {1, 2, 3, 4}) expect_loads(folder.path(), column_cut(), readers);
  }
}

TEST(CheckpointRegions, OfAFusedWeightSavedByTwoLoadOnThreeAndOnOne) {
  const TemporaryFolder folder;
  save(folder.path(), fused_qkv(), 2);
  expect_loads(folder.path(), fused_qkv(), 3);
  expect_loads(folder.path(), fused_qkv(), 1);
}

// Ranks are cut by columns along "tensor", and what is left of the cuts is sliced along "data".
TEST(CheckpointRegions, OfSlicesOfAColumnCutLoadInEveryOtherLayout) {
  Layout zero = column_cut();
  zero.sliced = {"data"};
  const TemporaryFolder folder;
  test::run_ranks(4, [&](Communicator& world) {
    const Coordinates place = {{"data", world.rank() / 2, 2}, {"tensor", world.rank() % 2, 2}};
    const Region region = region_of(zero, place);
    EXPECT_TRUE(region.is_slice());
    Parameter parameter(region);
    parameter.fill();
    save_checkpoint(folder.path(), world, {}, parameter.state(), {.newest = 1});
  });
  expect_loads(folder.path(), column_cut(), 1);
  expect_loads(folder.path(), column_cut(), 3);
  for (int data = 0; data < 3; ++data) {
    for (int tensor = 0; tensor < 2; ++tensor) {
      const Parameter parameter(region_of(zero, {{"data", data, 3}, {"tensor", tensor, 2}}));
      load_checkpoint(folder.path() / "step-0", parameter.state());
      parameter.expect_filled();
    }
  }
}

TEST(CheckpointRegions, OfCopiesAreWrittenWhereTheyCount) {
  const Layout copied{.full_shape = {5, 3}};
  const TemporaryFolder folder;
  test::run_ranks(3, [&](Communicator& world) {
    const Coordinates place = on("data", world.rank(), 3);
    Parameter parameter(region_of(copied, place));
    parameter.fill();
    std::vector<StateTensor> state = parameter.state();
    for (StateTensor& tensor : state) tensor.is_written = counts_here(copied, place);
    save_checkpoint(folder.path(), world, {}, state, {.newest = 1});
  });
  EXPECT_FALSE(fs::exists(folder.path() / "step-0" / "rank-1.safetensors"));
  expect_loads(folder.path(), copied, 1);
}

TEST(CheckpointRegions, AreNamedAndShapedForOtherReaders) {
  const TemporaryFolder folder;
  save(folder.path(), fused_qkv(), 2);
  const SafetensorsFile file(folder.path() / "step-0" / "rank-1.safetensors");
  EXPECT_THAT(file.names(), testing::Contains("model.w[32:64+80:96+112:128, :]"));
  EXPECT_EQ(file.info("model.w[32:64+80:96+112:128, :]").shape,
            (std::vector<std::int64_t>{64, 96}));
}

// Long runs are read in place, short ones through a buffer that is filled several times.
TEST(CheckpointRegions, OfAMatrixThatExceedsTheBufferLoadByRowsAndColumns) {
  const Layout rows{.full_shape = {1200, 700}, .cuts = {{.dim = 0, .axis = "tensor"}}};
  const Layout columns{.full_shape = {1200, 700}, .cuts = {{.dim = 1, .axis = "tensor"}}};
  const TemporaryFolder folder;
  save(folder.path(), rows, 2);
  expect_loads(folder.path(), columns, 3);
  save(folder.path(), columns, 2);
  expect_loads(folder.path(), rows, 3);
}

// Cuts a tensor in two by any region of it, and reads any other region.
RC_GTEST_PROP(CheckpointRegions, LoadAsAnyRegionFromAnyCut, ()) {
  TensorShape shape = {*rc::gen::inRange<std::int64_t>(1, 6), *rc::gen::inRange<std::int64_t>(1, 6),
                       *rc::gen::inRange<std::int64_t>(1, 6)};
  const int dim = *rc::gen::inRange(0, 3);
  const auto at = *rc::gen::inRange<std::int64_t>(0, shape[static_cast<std::size_t>(dim)] + 1);
  const Region first(shape, {{dim, {{0, at}}}});
  const Region second(shape, {{dim, {{at, shape[static_cast<std::size_t>(dim)]}}}});
  const auto middle = *rc::gen::inRange<std::int64_t>(0, first.count() + 1);
  const Region wanted = test::random_region(shape).region;
  const TemporaryFolder folder;
  test::run_ranks(1, [&](Communicator& world) {
    std::vector<std::unique_ptr<OwnedTensor<>>> owned;
    std::vector<StateTensor> state;
    for (const Region& region :
         {first.slice({0, middle}), first.slice({middle, first.count()}), second}) {
      owned.push_back(std::make_unique<OwnedTensor<>>("w", region));
      test::fill_by_place(*owned.back(), Parameter::weight_at);
      state.push_back(owned.back()->tensor);
    }
    save_checkpoint(folder.path(), world, {}, state, {.newest = 1});
  });
  OwnedTensor<> loaded("w", wanted), expected("w", wanted);
  load_checkpoint(folder.path() / "step-0", std::span(&loaded.tensor, 1));
  test::fill_by_place(expected, Parameter::weight_at);
  RC_ASSERT(loaded.values == expected.values);
}

}  // namespace
}  // namespace trireme
