#include "trireme/data/standardize.h"

#include <gtest/gtest.h>

#include <cmath>
#include <mutex>
#include <numeric>

#include "tests/comm/ranks.h"
#include "trireme/base/error.h"
#include "trireme/data/tensor_dataset.h"

namespace trireme {
namespace {

using test::run_ranks;

constexpr std::int64_t kSamples = 1001;
constexpr int kWorkers = 12;

at::Tensor inputs() {
  at::Tensor x = at::randn({kSamples, 4}, at::kDouble) * 3 + 1e6;
  x.select(1, 2).fill_(0.1);
  return x;
}

// On `ranks` ranks, each of which holds no more than the samples of its virtual workers.
Standardization on_ranks(int ranks, const at::Tensor& x, const at::Tensor& y,
                         bool fill_missing = false) {
  Standardization result;
  const ReductionTree tree(kWorkers, ranks);
  run_ranks(ranks, [&](Communicator& world) {
    const Range workers = tree.virtual_workers_of(world.rank());
    const Range held{partition(kSamples, kWorkers, workers.begin).begin,
                     partition(kSamples, kWorkers, workers.end - 1).end};
    const TensorDataset own(x.slice(0, held.begin, held.end), y.slice(0, held.begin, held.end), 0,
                            held, kSamples);
    const Standardization found =
        standardization_of(own, world, tree, {.targets = true, .fill_missing = fill_missing});
    static std::mutex mutex;
    const std::lock_guard lock(mutex);
    if (!result.mean.empty()) {
      EXPECT_EQ(result.mean, found.mean);
    }
    result = found;
  });
  return result;
}

TEST(Standardize, IsMeanAndPopulationDeviation) {
  const at::Tensor x = inputs(), y = at::randn({kSamples, 2}, at::kDouble) * 5 - 7;
  const Standardization found = on_ranks(3, x, y);
  const at::Tensor mean = x.mean(0), deviation = x.std(0, false);
  for (const int j : {0, 1, 3}) {
    EXPECT_NEAR(found.mean[j], mean[j].item<double>(), 1e-8);
    EXPECT_NEAR(found.deviation[j], deviation[j].item<double>(), 1e-9);
  }
  EXPECT_EQ(found.mean[2], 0.1);
  EXPECT_EQ(found.deviation[2], 1.0);
  for (const int j : {0, 1}) {
    EXPECT_NEAR(found.target_mean[j], y.mean(0)[j].item<double>(), 1e-12);
    EXPECT_NEAR(found.target_deviation[j], y.std(0, false)[j].item<double>(), 1e-12);
  }
}

TEST(Standardize, HasTheSameBitsOnAnyNumberOfRanks) {
  const at::Tensor x = inputs(), y = at::randn({kSamples, 1}, at::kDouble);
  const Standardization one = on_ranks(1, x, y);
  for (const int ranks : {2, 3, 4, 6}) {
    const Standardization several = on_ranks(ranks, x, y);
    EXPECT_EQ(several.mean, one.mean) << ranks;
    EXPECT_EQ(several.deviation, one.deviation) << ranks;
    EXPECT_EQ(several.target_mean, one.target_mean) << ranks;
    EXPECT_EQ(several.target_deviation, one.target_deviation) << ranks;
  }
}

TEST(Standardize, AppliesInPlaceAsInAWrapper) {
  const at::Tensor x = inputs().to(at::kFloat), y = at::randn({kSamples, 1});
  const at::Tensor before = x.clone();
  TensorDataset dataset(x, y);
  const Standardization by = on_ranks(2, x, y);
  std::vector<std::int64_t> all(kSamples);
  std::iota(all.begin(), all.end(), 0);
  const Batch wrapped = StandardizedDataset(dataset, by, at::kFloat).batch(all);
  dataset.standardize(by);
  EXPECT_TRUE(at::equal(dataset.inputs(), wrapped.input));
  EXPECT_TRUE(at::equal(dataset.targets(), wrapped.target));
  EXPECT_TRUE(at::equal(x, before));
  const at::Tensor mean = wrapped.input.to(at::kDouble).mean(0);
  const at::Tensor deviation = wrapped.input.to(at::kDouble).std(0, false);
  for (const int j : {0, 1, 3}) {
    EXPECT_NEAR(mean[j].item<double>(), 0, 1e-6);
    EXPECT_NEAR(deviation[j].item<double>(), 1, 1e-6);
  }
  EXPECT_EQ(wrapped.input.select(1, 2).abs().max().item<float>(), 0);
}

// A constant column stays constant although its first value is missing, and a missing value lies
// at the mean.
TEST(Standardize, FillsMissingValuesWithTheMeanOfTheOthers) {
  at::Tensor x = inputs();
  const at::Tensor y = at::randn({kSamples, 1}, at::kDouble);
  const at::Tensor missing = at::rand({kSamples, 4}) < 0.3;
  missing[0].fill_(true);
  x.masked_fill_(missing, std::nan(""));
  const Standardization one = on_ranks(1, x, y, /*fill_missing=*/true);
  for (const int ranks : {2, 3, 4}) {
    const Standardization several = on_ranks(ranks, x, y, /*fill_missing=*/true);
    EXPECT_EQ(several.fill, one.fill) << ranks;
    EXPECT_EQ(several.deviation, one.deviation) << ranks;
  }
  const at::Tensor mean = x.nanmean(0);
  const at::Tensor filled = at::where(missing, mean, x);
  for (const int j : {0, 1, 3}) {
    EXPECT_NEAR(one.fill[j], mean[j].item<double>(), 1e-8);
    EXPECT_NEAR(one.deviation[j], filled.std(0, false)[j].item<double>(), 1e-9);
  }
  EXPECT_EQ(one.fill[2], 0.1);
  EXPECT_EQ(one.deviation[2], 1.0);
  EXPECT_EQ(one.mean, one.fill);
  Batch batch{x.clone(), y.clone()};
  one.apply(batch);
  EXPECT_EQ(batch.input.masked_select(missing).abs().max().item<double>(), 0);
  EXPECT_FALSE(batch.input.isnan().any().item<bool>());
}

// In f32 these years of seconds are all the same number.
TEST(Standardize, IsComputedInF64BeforeItIsNarrowed) {
  const at::Tensor x = at::arange(200, at::kDouble).reshape({200, 1}) + 1.7e9;
  const TensorDataset dataset(x, x);
  run_ranks(1, [&](Communicator& world) {
    const Standardization by = standardization_of(dataset, world, ReductionTree(1, 1));
    std::vector<std::int64_t> all(200);
    std::iota(all.begin(), all.end(), 0);
    const Batch batch = StandardizedDataset(dataset, by, at::kFloat).batch(all);
    EXPECT_EQ(batch.input.scalar_type(), at::kFloat);
    EXPECT_NEAR(batch.input.std(0, false).item<float>(), 1, 1e-6);
    EXPECT_EQ(std::get<0>(at::_unique(batch.input)).numel(), 200);
  });
}

TEST(Standardize, NamesAnInputWithoutAnyValue) {
  at::Tensor x = at::ones({5, 3}, at::kDouble);
  x.select(1, 2).fill_(std::nan(""));
  const TensorDataset dataset(x, at::ones({5, 1}, at::kDouble));
  run_ranks(2, [&](Communicator& world) {
    EXPECT_THROW(standardization_of(dataset, world, ReductionTree(2, 2), {.fill_missing = true}),
                 UsageError);
  });
}

TEST(Standardize, RefusesClassesAsTargetsAndOtherWidths) {
  const TensorDataset labeled(at::randn({5, 2}), at::zeros({5}, at::kLong), 3);
  run_ranks(1, [&](Communicator& world) {
    EXPECT_THROW(standardization_of(labeled, world, ReductionTree(1, 1), {.targets = true}),
                 UsageError);
    const Standardization by = standardization_of(labeled, world, ReductionTree(1, 1));
    Batch wider{at::randn({3, 4}), at::zeros({3}, at::kLong)};
    EXPECT_THROW(by.apply(wider), UsageError);
  });
}

}  // namespace
}  // namespace trireme
