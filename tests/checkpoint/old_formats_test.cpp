// Checkpoints that earlier versions wrote: data/format-N/step-30, each by two ranks.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/checkpoint/tensors.h"

namespace trireme {
namespace {

namespace fs = std::filesystem;
using test::OwnedTensor;
using testing::ElementsAre;
using testing::Pair;

constexpr std::int64_t kRows = 5, kColumns = 3;

class OldFormat : public testing::TestWithParam<int> {
 protected:
  fs::path step() const {
    return fs::path(TRIREME_CHECKPOINTS) / ("format-" + std::to_string(GetParam())) / "step-30";
  }

  // The weight and its Adam state, which ranks hold in parts, all as `region`.
  void expect_weight(const Region& region) const {
    const OwnedTensor<> weight("model.layer.weight", region);
    const OwnedTensor<> mean("optimizer.layer.weight.exp_avg", region);
    const OwnedTensor<> square("optimizer.layer.weight.exp_avg_sq", region);
    load_checkpoint(step(), std::vector{weight.tensor, mean.tensor, square.tensor});
    const auto expect = [&](const OwnedTensor<>& loaded, float first, float increment) {
      OwnedTensor<> expected(loaded.tensor.name, region);
      test::fill_by_place(expected, [&](std::int64_t place) {
        return first + increment * static_cast<float>(place);
      });
      EXPECT_EQ(loaded.values, expected.values) << loaded.tensor.name;
    };
    expect(weight, -3, 0.5f);
    expect(mean, 0, 0.25f);
    expect(square, 1, 0.125f);
  }
};

TEST_P(OldFormat, LoadsWhole) {
  expect_weight(Region({kRows, kColumns}));
  const OwnedTensor<double> bias("model.layer.bias", {kRows}, 0, kRows);
  const OwnedTensor<std::int64_t> steps("optimizer.layer.weight.step", {1}, 0, 1);
  const OwnedTensor<std::int64_t> count("model.norm.num_batches_tracked", {}, 0, 1);
  const RunState state =
      load_checkpoint(step(), std::vector{bias.tensor, steps.tensor, count.tensor});
  EXPECT_THAT(bias.values, ElementsAre(-1, -0.5, 0, 0.5, 1));
  EXPECT_EQ(steps.values[0], 30);
  EXPECT_EQ(count.values[0], 30);
  EXPECT_EQ(state.step, 30);
  EXPECT_THAT(state.metadata,
              ElementsAre(Pair("data.sampler", "shuffle"), Pair("training.seed", "7")));
}

TEST_P(OldFormat, LoadsInSlicesAndByColumns) {
  for (const Range range : {Range{0, 4}, Range{4, 11}, Range{11, 15}}) {
    expect_weight(Region({kRows, kColumns}).slice(range));
  }
  expect_weight(Region({kRows, kColumns}, {{1, {{0, 1}, {2, 3}}}}));
}

INSTANTIATE_TEST_SUITE_P(, OldFormat, testing::Values(1, 2),
                         [](const auto& info) { return std::to_string(info.param); });

// A typed section that this version does not read is returned unchanged.
TEST(OldFormat2, KeepsSections) {
  const RunState state =
      load_checkpoint(fs::path(TRIREME_CHECKPOINTS) / "format-2" / "step-30", {});
  EXPECT_EQ(std::get<double>(state.sections.at(sections::kPrecision).at("loss_scale")), 1024.0);
  EXPECT_EQ(std::get<std::string>(state.sections.at(sections::kTied).at("head.weight")),
            "embedding.weight");
  EXPECT_EQ(std::get<std::int64_t>(state.sections.at("later").at("number")), 5);
}

}  // namespace
}  // namespace trireme
