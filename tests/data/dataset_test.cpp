#include "trireme/data/dataset.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <numeric>
#include <set>

#include "tests/formats/deflate.h"
#include "tests/formats/error_of.h"
#include "tests/formats/temporary_folder.h"
#include "trireme/base/error.h"
#include "trireme/data/idx_dataset.h"
#include "trireme/data/linear_model_dataset.h"
#include "trireme/data/subset.h"
#include "trireme/data/tensor_dataset.h"

namespace trireme {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

Batch batch_of(const Dataset& dataset, std::vector<std::int64_t> indices) {
  return dataset.batch(indices);
}

TEST(TensorDataset, GivesTheRowsThatIndexSelectGives) {
  const at::Tensor x = at::randn({50, 3, 4}), y = at::randn({50, 2});
  const TensorDataset dataset(x, y);
  EXPECT_EQ(dataset.size(), 50);
  EXPECT_THAT(dataset.input_shape(), ElementsAre(3, 4));
  EXPECT_EQ(dataset.target(), Target::numbers(2));
  const Batch batch = batch_of(dataset, {7, 49, 0, 7});
  const at::Tensor rows = at::tensor({7, 49, 0, 7}, at::kLong);
  EXPECT_TRUE(at::equal(batch.input, x.index_select(0, rows)));
  EXPECT_TRUE(at::equal(batch.target, y.index_select(0, rows)));
}

TEST(TensorDataset, TakesRowsOfEveryTypeAndTensorsThatAreNotContiguous) {
  for (const auto type : {at::kFloat, at::kDouble, at::kLong, at::kByte, at::kHalf}) {
    const at::Tensor x = at::arange(60).reshape({3, 20}).t().to(type);
    const TensorDataset dataset(x, at::arange(20, at::kLong), 20);
    const Batch batch = batch_of(dataset, {19, 3});
    EXPECT_TRUE(at::equal(batch.input, x.index_select(0, at::tensor({19, 3}, at::kLong))));
    EXPECT_TRUE(at::equal(batch.target, at::tensor({19, 3}, at::kLong)));
    EXPECT_EQ(dataset.target(), Target::one_of(20));
  }
}

TEST(TensorDataset, MakesARegressionTargetTwoDimensional) {
  const TensorDataset dataset(at::randn({5, 2}), at::randn({5}));
  EXPECT_THAT(batch_of(dataset, {1, 2, 3}).target.sizes(), ElementsAre(3, 1));
  EXPECT_THAT(batch_of(dataset, {}).input.sizes(), ElementsAre(0, 2));
}

TEST(TensorDataset, RefusesWhatDoesNotFitTogether) {
  const at::Tensor x = at::randn({5, 2});
  const auto making = [&](const at::Tensor& y, std::int64_t classes) {
    return error_of<UsageError>([&] { TensorDataset(x, y, classes); });
  };
  EXPECT_THAT(making(at::randn({4}), 0), HasSubstr("have 5 and 4"));
  EXPECT_THAT(making(at::arange(5), 0), HasSubstr("floating type"));
  EXPECT_THAT(making(at::arange(5), 4), HasSubstr("[0, 4), got 4"));
  EXPECT_THAT(making(at::randn({5}), 4), HasSubstr("must be (N) of i64"));
}

TEST(TensorDataset, HoldsAPartUnderTheIndicesOfTheWhole) {
  const at::Tensor x = at::randn({10, 2}), y = at::randn({10});
  const TensorDataset part(x.slice(0, 4, 7), y.slice(0, 4, 7), 0, {4, 7}, 10);
  EXPECT_EQ(part.size(), 10);
  EXPECT_TRUE(at::equal(batch_of(part, {6, 4}).input[0], x[6]));
  EXPECT_THAT(error_of<UsageError>([&] {
                batch_of(part, {4, 7});
              }),
              HasSubstr("[4, 7) here, asked for 7"));
  EXPECT_THROW(batch_of(part, {-1}), UsageError);
}

TEST(LinearModelDataset, IsTheModelThatItExposes) {
  const LinearModelDataset dataset(
      {.samples = 1000, .features = 7, .seed = 3, .dtype = DType::kF64});
  std::vector<std::int64_t> all(1000);
  std::iota(all.begin(), all.end(), 0);
  const Batch batch = dataset.batch(all);
  const at::Tensor w = at::tensor(dataset.weights(), at::kDouble);
  EXPECT_TRUE(at::allclose(batch.input.mv(w) + dataset.bias(), batch.target.squeeze(1), 1e-12));
  EXPECT_NEAR(batch.input.mean().item<double>(), 0, 5 / std::sqrt(7000));
  EXPECT_NEAR(batch.input.var().item<double>(), 1, 5 * std::sqrt(2.0 / 7000));
}

TEST(LinearModelDataset, AddsNoiseOfTheGivenDeviation) {
  const LinearModelOptions exact{.samples = 4000, .features = 2, .seed = 3};
  LinearModelOptions noisy = exact;
  noisy.noise = 0.5;
  const at::Tensor noise = in_memory(LinearModelDataset(noisy)).targets() -
                           in_memory(LinearModelDataset(exact)).targets();
  EXPECT_NEAR(noise.std().item<double>(), 0.5, 5 * 0.5 / std::sqrt(8000));
}

TEST(LinearModelDataset, GivesASampleByItsIndexAlone) {
  const std::int64_t largest = (std::int64_t{1} << 62) - 1;
  const LinearModelDataset dataset({.samples = largest + 1, .features = 3, .seed = 3});
  const Batch one = batch_of(dataset, {largest}), two = batch_of(dataset, {0, largest});
  EXPECT_TRUE(at::equal(one.input[0], two.input[1]));
  EXPECT_TRUE(at::equal(one.target[0], two.target[1]));
  EXPECT_FALSE(at::equal(two.input[0], two.input[1]));
  const LinearModelDataset other({.samples = 10, .features = 3, .seed = 4});
  EXPECT_NE(other.weights(), dataset.weights());
  EXPECT_FALSE(at::equal(batch_of(other, {0}).input[0], two.input[0]));
}

std::string idx(std::initializer_list<int> shape, std::string_view bytes) {
  std::string out = {0, 0, 8, static_cast<char>(shape.size())};
  for (const int d : shape) out += {0, 0, static_cast<char>(d >> 8), static_cast<char>(d)};
  return out.append(bytes);
}

TEST(IdxDataset, ScalesNormalizesAndLabels) {
  const TemporaryFolder folder;
  const auto images =
      folder.write("i.gz", gzipped(idx({2, 1, 3}, std::string("\0\x33\xff\1\2\3", 6))));
  const auto labels = folder.write("l", idx({2}, std::string("\4\0", 2)));
  const IdxDataset plain({.images = images, .labels = labels});
  EXPECT_THAT(plain.input_shape(), ElementsAre(1, 1, 3));
  EXPECT_EQ(plain.target(), Target::one_of(5));
  const Batch batch = batch_of(plain, {1, 0});
  EXPECT_THAT(batch.input.sizes(), ElementsAre(2, 1, 1, 3));
  EXPECT_TRUE(at::equal(batch.input.flatten(),
                        at::tensor({1 / 255.0f, 2 / 255.0f, 3 / 255.0f, 0.0f, 0.2f, 1.0f})));
  EXPECT_TRUE(at::equal(batch.target, at::tensor({0, 4}, at::kLong)));

  const IdxDataset normal({.images = images, .labels = labels, .mean = 0.2, .deviation = 0.5});
  EXPECT_TRUE(at::allclose(batch_of(normal, {0}).input.flatten(), at::tensor({-0.4f, 0.0f, 1.6f})));
}

TEST(IdxDataset, PutsABorderOfBlackPixelsAroundImages) {
  const TemporaryFolder folder;
  // Two images of two channels, one row and two columns.
  const auto images = folder.write("i", idx({2, 2, 1, 2}, "\1\2\3\4\5\6\7\x08"));
  const auto labels = folder.write("l", idx({2}, std::string("\0\1", 2)));
  const IdxDataset padded(
      {.images = images, .labels = labels, .mean = 1, .deviation = 1 / 255.0, .pad_to = 4});
  EXPECT_THAT(padded.input_shape(), ElementsAre(2, 4, 4));
  at::Tensor wanted = at::zeros({2, 2, 4, 4});
  wanted.slice(2, 1, 2).slice(3, 1, 3) = at::arange(1, 9, at::kFloat).view({2, 2, 1, 2});
  EXPECT_TRUE(at::allclose(batch_of(padded, {0, 1}).input, wanted - 255));

  const IdxDataset odd({.images = images, .labels = labels, .pad_to = 3});
  EXPECT_TRUE(at::allclose(255 * batch_of(odd, {1}).input[0][1],
                           at::tensor({0, 0, 0, 7, 8, 0, 0, 0, 0}, at::kFloat).view({3, 3})));
  EXPECT_THAT(
      error_of<UsageError>([&] { IdxDataset({.images = images, .labels = labels, .pad_to = 1}); }),
      HasSubstr("must be at least 2"));
}

TEST(IdxDataset, RefusesFilesThatDoNotBelongTogether) {
  const TemporaryFolder folder;
  const auto images = folder.write("i", idx({2, 1, 1}, "ab"));
  const auto making = [&](std::string_view labels, std::int64_t classes = 0) {
    const auto path = folder.write("l", labels);
    return error_of<DataError>([&] { IdxDataset({images, path, classes}); });
  };
  EXPECT_THAT(making(idx({1}, "a")), HasSubstr("holds 1 for 2"));
  EXPECT_THAT(making(idx({2, 1}, "ab")), HasSubstr("u8 labels in 1 dimension"));
  EXPECT_THAT(making(idx({2}, std::string("\0\3", 2)), 3),
              HasSubstr("[0, 3), the classes of the training data, got 3"));
  const auto none = folder.write("none", idx({0, 1, 1}, ""));
  EXPECT_THAT(error_of<DataError>([&] {
                IdxDataset({none, folder.write("l", idx({0}, ""))});
              }),
              HasSubstr("must hold images with pixels, holds 0 of [1, 1]"));
}

TEST(Subset, TakesARange) {
  const TensorDataset all(at::arange(10, at::kFloat).unsqueeze(1), at::randn({10}));
  const Subset some(all, {3, 7});
  EXPECT_EQ(some.size(), 4);
  EXPECT_EQ(batch_of(some, {0, 3}).input.flatten()[1].item<float>(), 6);
  EXPECT_THROW(batch_of(some, {4}), UsageError);
  EXPECT_THROW(Subset(all, {3, 11}), UsageError);
}

TEST(Subset, HoldsOutWithoutOverlapOrLoss) {
  const TensorDataset all(at::arange(101, at::kFloat).unsqueeze(1), at::randn({101}));
  const Split split = hold_out(all, 0.2, 5);
  EXPECT_EQ(split.held_out.size(), 20);
  EXPECT_EQ(split.train.size(), 81);
  std::set<float> seen;
  for (const Subset* part : {&split.train, &split.held_out}) {
    for (std::int64_t i = 0; i < part->size(); ++i) {
      seen.insert(batch_of(*part, {i}).input.item<float>());
    }
  }
  EXPECT_EQ(seen.size(), 101u);
  const auto first = [&](std::uint64_t seed) {
    return batch_of(hold_out(all, 0.2, seed).held_out, {0, 1, 2, 3}).input;
  };
  EXPECT_TRUE(at::equal(first(5), first(5)));
  EXPECT_FALSE(at::equal(first(5), first(6)));
  for (const double fraction : {0.0, 1.0, 0.001, -1.0, 2.0}) {
    EXPECT_THROW(hold_out(all, fraction, 5), UsageError);
  }
}

}  // namespace
}  // namespace trireme
