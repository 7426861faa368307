#include "trireme/data/loader.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <numeric>
#include <stdexcept>
#include <thread>

#include "tests/formats/error_of.h"
#include "trireme/base/error.h"
#include "trireme/data/subset.h"
#include "trireme/data/tensor_dataset.h"

namespace trireme {
namespace {

TensorDataset numbered(std::int64_t samples) {
  return {at::arange(samples, at::kFloat).unsqueeze(1), at::zeros({samples})};
}

// Of every batch the indices that it was made of.
class Recording final : public Dataset {
 public:
  explicit Recording(std::int64_t fails_at = -1, int milliseconds = 0)
      : fails_at_(fails_at), milliseconds_(milliseconds) {}

  std::int64_t size() const override { return 1'000'000; }
  std::vector<std::int64_t> input_shape() const override { return {1}; }
  Target target() const override { return {}; }
  Batch batch(std::span<const std::int64_t> indices) const override {
    ++calls;
    std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds_));
    for (const std::int64_t i : indices) {
      if (i == fails_at_) throw std::runtime_error("sample of bad luck");
    }
    return numbered(size_).batch(indices);
  }

  mutable std::atomic<int> calls = 0;

 private:
  static constexpr std::int64_t size_ = 5000;
  std::int64_t fails_at_;
  int milliseconds_;
};

class Loaders : public testing::TestWithParam<int> {
 protected:
  LoaderOptions options() const { return {.prefetch_steps = GetParam()}; }
};

TEST_P(Loaders, RefuseASamplerOfOtherData) {
  const TensorDataset dataset = numbered(101);
  const auto larger = random_sampler({102, 12, 4, 3});
  const auto sampler = random_sampler({101, 12, 4, 3});
  const auto make = [&](const Sampler& of, Range workers, Range steps) {
    return error_of<UsageError>([&] { Loader(dataset, of, workers, steps, options()); });
  };
  EXPECT_EQ(make(*larger, {0, 4}, {0, 1}),
            "loader: the sampler must be of at most the 101 samples of the dataset, is of 102");
  EXPECT_EQ(make(*sampler, {2, 5}, {0, 1}),
            "loader: virtual workers must lie in [0, 4), got [2, 5)");
  EXPECT_EQ(make(*sampler, {0, 4}, {-1, 1}), "loader: steps count from 0, got [-1, 1)");
}

TEST_P(Loaders, GiveTheStepsThatTheSamplerNames) {
  const TensorDataset dataset = numbered(101);
  const auto sampler = random_sampler({101, 12, 4, 3});
  Loader loader(dataset, *sampler, {1, 4}, {5, 500}, options());
  std::vector<std::int64_t> indices;
  for (std::int64_t s = 5; s < 500; ++s) {
    const auto step = loader.next();
    ASSERT_TRUE(step.has_value());
    EXPECT_EQ(step->step, s);
    EXPECT_EQ(step->samples, sampler->count(s));
    ASSERT_EQ(step->batches.size(), step->virtual_workers.size());
    std::size_t at = 0;
    for (int worker = 1; worker < 4; ++worker) {
      sampler->indices(s, worker, indices);
      if (indices.empty()) continue;
      ASSERT_LT(at, step->virtual_workers.size());
      EXPECT_EQ(step->virtual_workers[at], worker);
      EXPECT_TRUE(at::equal(step->batches[at].input, dataset.batch(indices).input));
      ++at;
    }
    EXPECT_EQ(at, step->virtual_workers.size());
  }
  EXPECT_FALSE(loader.next().has_value());
  EXPECT_FALSE(loader.next().has_value());
}

TEST_P(Loaders, SkipVirtualWorkersWithoutSamples) {
  const TensorDataset dataset = numbered(13);
  const auto sampler = sequential_sampler({13, 12, 4});
  Loader loader(dataset, *sampler, {0, 4}, {1, 2}, options());
  const auto step = loader.next();
  ASSERT_TRUE(step.has_value());
  EXPECT_EQ(step->samples, 1);
  EXPECT_EQ(step->virtual_workers, std::vector<int>{0});
}

// Sample i weighs i.
class Weighted final : public TensorDataset {
 public:
  Weighted() : TensorDataset(numbered(13)) {}
  double weight(std::span<const std::int64_t> indices) const override {
    return std::accumulate(indices.begin(), indices.end(), 0.0);
  }
  bool has_equal_weights() const override { return false; }
};

TEST_P(Loaders, KnowTheWeightOfTheWholeStep) {
  const TensorDataset plain = numbered(13);
  const Weighted weighted;
  const Subset odd(weighted, {1, 13});
  const auto weight_of_step = [&](const Dataset& dataset, std::int64_t step) {
    const auto sampler = sequential_sampler({dataset.size(), 5, 4});
    return Loader(dataset, *sampler, {1, 2}, {step, step + 1}, options()).next()->weight;
  };
  EXPECT_EQ(weight_of_step(plain, 0), 5);
  EXPECT_EQ(weight_of_step(plain, 2), 3);
  EXPECT_EQ(weight_of_step(weighted, 0), 0 + 1 + 2 + 3 + 4);
  EXPECT_EQ(weight_of_step(weighted, 2), 10 + 11 + 12);
  EXPECT_EQ(weight_of_step(odd, 2), 11 + 12);
  EXPECT_EQ(plain.batch(std::vector<std::int64_t>{3, 4}).weight, 2);
}

TEST_P(Loaders, ThrowWhatTheDatasetThrewAtItsStep) {
  const Recording dataset(7);
  const auto sampler = sequential_sampler({100, 1, 1});
  Loader loader(dataset, *sampler, {0, 1}, {0, 100}, options());
  for (int s = 0; s < 7; ++s) ASSERT_TRUE(loader.next().has_value());
  EXPECT_THROW(loader.next(), std::runtime_error);
}

TEST_P(Loaders, EndWhileStepsAreLeft) {
  const TensorDataset dataset = numbered(1000);
  const auto sampler = random_sampler({1000, 10, 1});
  for (int taken = 0; taken < 20; ++taken) {
    Loader loader(dataset, *sampler, {0, 1}, {0, 1'000'000'000}, options());
    for (int i = 0; i < taken; ++i) ASSERT_TRUE(loader.next().has_value());
  }
}

TEST_P(Loaders, HaveNoStepsInAnEmptyRange) {
  const TensorDataset dataset = numbered(10);
  const auto sampler = random_sampler({10, 10, 1});
  EXPECT_FALSE(Loader(dataset, *sampler, {0, 1}, {3, 3}, options()).next().has_value());
}

INSTANTIATE_TEST_SUITE_P(Loader, Loaders, testing::Values(0, 1, 2, 3, 64),
                         [](const auto& test) { return std::to_string(test.param) + "Ahead"; });

TEST(Loader, ReadsAheadAsFarAsItIsToldAndNoFurther) {
  const Recording dataset;
  const auto sampler = sequential_sampler({5000, 1, 1});
  Loader loader(dataset, *sampler, {0, 1}, {0, 5000}, {.prefetch_steps = 8});
  ASSERT_TRUE(loader.next().has_value());
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  // The chunk being taken, the one that is ready and the one that is being filled: four steps each.
  EXPECT_LE(dataset.calls, 12);
  EXPECT_GE(dataset.calls, 2);
}

TEST(Loader, HandsOverASlowStepAtOnce) {
  const Recording dataset(-1, 20);
  const auto sampler = sequential_sampler({5000, 1, 1});
  Loader loader(dataset, *sampler, {0, 1}, {0, 5000}, {.prefetch_steps = 64});
  ASSERT_TRUE(loader.next().has_value());
  EXPECT_LE(dataset.calls, 16);
  EXPECT_GT(loader.last_wait_seconds(), 0.0);
}

TEST(Loader, BoundsTheMemoryOfLargeSteps) {
  const TensorDataset dataset(at::zeros({4, 1 << 18}), at::zeros({4}));  // 1 MiB a sample
  const auto sampler = sequential_sampler({4, 1, 1});
  Loader loader(dataset, *sampler, {0, 1}, {0, 100}, {.prefetch_steps = 64});
  for (int s = 0; s < 100; ++s) ASSERT_TRUE(loader.next().has_value());
  EXPECT_FALSE(loader.next().has_value());
}

}  // namespace
}  // namespace trireme
