#include "trireme/data/sampler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>
#include <string>

#include "tests/formats/error_of.h"
#include "trireme/base/error.h"

namespace trireme {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

using Indices = std::vector<std::int64_t>;

Indices indices_of(const Sampler& sampler, std::int64_t step, int worker) {
  Indices out = {-1, -2};
  sampler.indices(step, worker, out);
  return out;
}

class EverySampler : public testing::TestWithParam<std::string> {
 protected:
  // Sizes that divide and sizes that do not, batches larger than the data, workers without samples.
  template <class Use>
  void for_each_case(Use use) {
    for (const std::int64_t n : {1, 2, 3, 7, 12, 31, 64, 100, 101}) {
      for (const int workers : {1, 2, 3, 4, 6, 12}) {
        for (const std::int64_t batch : {1, 2, 3, 5, 12, 13, 32, 150}) {
          if (batch < workers) continue;
          const SamplerOptions options{n, batch, workers, 9};
          SCOPED_TRACE(testing::Message() << n << " samples, batch " << batch << ", " << workers
                                          << " virtual workers");
          use(options);
          if (testing::Test::HasFatalFailure()) return;
        }
      }
    }
  }
};

TEST_P(EverySampler, TakesEverySampleOnceAnEpoch) {
  for_each_case([&](const SamplerOptions& o) {
    const auto sampler = make_sampler(GetParam(), o);
    const std::int64_t steps = sampler->steps_per_epoch();
    ASSERT_EQ(steps, (o.samples + o.global_batch - 1) / o.global_batch);
    for (const std::int64_t epoch : {0, 3}) {
      std::map<std::int64_t, int> taken;
      for (std::int64_t s = epoch * steps; s < (epoch + 1) * steps; ++s) {
        ASSERT_EQ(sampler->epoch_of(s), epoch);
        std::int64_t count = 0;
        for (int w = 0; w < o.virtual_workers; ++w) {
          const Indices indices = indices_of(*sampler, s, w);
          for (const std::int64_t i : indices) ++taken[i];
          count += static_cast<std::int64_t>(indices.size());
        }
        ASSERT_EQ(count, sampler->count(s));
        ASSERT_GT(count, 0);
      }
      ASSERT_EQ(static_cast<std::int64_t>(taken.size()), o.samples);
      ASSERT_EQ(taken.begin()->first, 0);
      ASSERT_EQ(taken.rbegin()->first, o.samples - 1);
      for (const auto& [index, times] : taken) ASSERT_EQ(times, 1);
    }
  });
}

TEST_P(EverySampler, LeavesOnlyTheLastVirtualWorkersWithoutSamples) {
  for_each_case([&](const SamplerOptions& o) {
    const auto sampler = make_sampler(GetParam(), o);
    for (std::int64_t s = 0; s < sampler->steps_per_epoch(); ++s) {
      bool empty = false;
      for (int w = 0; w < o.virtual_workers; ++w) {
        const bool nothing = indices_of(*sampler, s, w).empty();
        ASSERT_FALSE(empty && !nothing);
        empty = nothing;
      }
    }
  });
}

TEST_P(EverySampler, StaysWithinItsRows) {
  for_each_case([&](const SamplerOptions& o) {
    const auto sampler = make_sampler(GetParam(), o);
    for (int w = 0; w < o.virtual_workers; ++w) {
      const Range rows = sampler->rows_of({w, w + 1});
      for (std::int64_t s = 0; s < 2 * sampler->steps_per_epoch(); ++s) {
        for (const std::int64_t i : indices_of(*sampler, s, w)) ASSERT_TRUE(rows.contains(i));
      }
    }
    ASSERT_EQ(sampler->rows_of({0, o.virtual_workers}), (Range{0, o.samples}));
  });
}

TEST_P(EverySampler, DropsLessThanABatchWhenAskedTo) {
  for_each_case([&](SamplerOptions o) {
    o.drop_last = true;
    if (o.samples < o.global_batch) {
      ASSERT_THROW(make_sampler(GetParam(), o), UsageError);
      return;
    }
    const auto sampler = make_sampler(GetParam(), o);
    std::set<std::int64_t> taken;
    std::int64_t count = 0;
    for (std::int64_t s = 0; s < sampler->steps_per_epoch(); ++s) {
      count += sampler->count(s);
      for (int w = 0; w < o.virtual_workers; ++w) {
        for (const std::int64_t i : indices_of(*sampler, s, w)) taken.insert(i);
      }
      if (o.global_batch % o.virtual_workers == 0) {
        ASSERT_EQ(sampler->count(s), o.global_batch);
      }
    }
    const std::int64_t wanted = o.samples / o.global_batch * o.global_batch;
    ASSERT_EQ(count, wanted);
    ASSERT_EQ(static_cast<std::int64_t>(taken.size()), wanted);
  });
}

TEST_P(EverySampler, GivesTheSameWhenResumedAndWhateverWasAskedBefore) {
  const SamplerOptions options{101, 12, 4, 5};
  const auto whole = make_sampler(GetParam(), options);
  std::vector<Indices> steps;
  for (std::int64_t s = 0; s < 40; ++s) {
    for (int w = 0; w < 4; ++w) steps.push_back(indices_of(*whole, s, w));
  }
  const auto resumed = make_sampler(GetParam(), options);
  for (std::int64_t s = 39; s >= 0; --s) {
    for (int w = 3; w >= 0; --w) EXPECT_EQ(indices_of(*resumed, s, w), steps[s * 4 + w]);
  }
}

TEST_P(EverySampler, WorksAtTheLargestSize) {
  const std::int64_t n = std::int64_t{1} << 62;
  const auto sampler = make_sampler(GetParam(), {n, 12, 3, 5});
  for (const std::int64_t step : {std::int64_t{0}, sampler->steps_per_epoch() / 2,
                                  sampler->steps_per_epoch() - 1, sampler->steps_per_epoch()}) {
    for (int w = 0; w < 3; ++w) {
      for (const std::int64_t i : indices_of(*sampler, step, w)) EXPECT_TRUE(0 <= i && i < n);
    }
  }
}

TEST_P(EverySampler, RefusesABatchSmallerThanTheVirtualWorkersAndNoSamples) {
  EXPECT_THAT(error_of<UsageError>([&] {
                make_sampler(GetParam(), {100, 3, 4});
              }),
              HasSubstr("got 3 for 4 virtual workers"));
  EXPECT_THAT(error_of<UsageError>([&] {
                make_sampler(GetParam(), {0, 3, 1});
              }),
              HasSubstr("must have samples"));
}

INSTANTIATE_TEST_SUITE_P(Sampler, EverySampler, testing::Values("random", "block", "sequential"),
                         [](const auto& test) { return test.param; });

TEST(SequentialSampler, DealsInOrderRoundRobin) {
  const auto sampler = sequential_sampler({8, 5, 2});
  EXPECT_THAT(indices_of(*sampler, 0, 0), ElementsAre(0, 2, 4));
  EXPECT_THAT(indices_of(*sampler, 0, 1), ElementsAre(1, 3));
  EXPECT_THAT(indices_of(*sampler, 1, 0), ElementsAre(5, 7));
  EXPECT_THAT(indices_of(*sampler, 1, 1), ElementsAre(6));
  EXPECT_THAT(indices_of(*sampler, 2, 0), ElementsAre(0, 2, 4));
}

TEST(BlockSampler, OwnsPiecesAndShufflesEachOnItsOwn) {
  const auto sampler = block_sampler({100, 50, 2, 3});
  Indices first, second;
  for (const std::int64_t s : {0, 1}) {
    for (const std::int64_t i : indices_of(*sampler, s, 0)) first.push_back(i);
    for (const std::int64_t i : indices_of(*sampler, s, 1)) second.push_back(i - 50);
  }
  EXPECT_NE(first, second);
  EXPECT_FALSE(std::ranges::is_sorted(first));
  EXPECT_EQ(sampler->rows_of({1, 2}), (Range{50, 100}));
}

TEST(RandomSampler, ShufflesAnewInEachEpochAndForEachSeed) {
  const auto sampler = random_sampler({100, 100, 1, 3});
  EXPECT_NE(indices_of(*sampler, 0, 0), indices_of(*sampler, 1, 0));
  EXPECT_NE(indices_of(*sampler, 0, 0), indices_of(*random_sampler({100, 100, 1, 4}), 0, 0));
}

// A virtual worker's slice is cut from the step's, so that merging workers gives the step.
TEST(RandomSampler, TakesTheSameSamplesInAStepForAnyNumberOfVirtualWorkers) {
  const auto whole = random_sampler({101, 12, 1, 3});
  for (const int workers : {2, 3, 4, 12}) {
    const auto cut = random_sampler({101, 12, workers, 3});
    for (std::int64_t s = 0; s < 20; ++s) {
      Indices joined;
      for (int w = 0; w < workers; ++w) {
        for (const std::int64_t i : indices_of(*cut, s, w)) joined.push_back(i);
      }
      EXPECT_EQ(joined, indices_of(*whole, s, 0));
    }
  }
}

TEST(Sampler, NamesTheSamplersThatThereAre) {
  EXPECT_THAT(error_of<UsageError>([] {
                make_sampler("shuffled", {1, 1, 1});
              }),
              HasSubstr("\"random\", \"sequential\" or \"block\", got \"shuffled\""));
}

}  // namespace
}  // namespace trireme
