#include "trireme/base/runs.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>

#include "tests/base/random_region.h"

namespace trireme {
namespace {

using test::MarkedRegion;
using testing::ElementsAre;

RC_GTEST_PROP(Runs, AreTheMarkedElements, ()) {
  const MarkedRegion marked = test::random_region(test::random_shape());
  std::vector<std::int64_t> elements;
  std::int64_t end = -1;
  for (const Run& run : runs_of(marked.region)) {
    RC_ASSERT(run.local == std::ssize(elements));
    RC_ASSERT(run.count > 0);
    RC_ASSERT(run.full > end);  // the run before was the longest
    end = run.full + run.count;
    for (std::int64_t i = 0; i < run.count; ++i) elements.push_back(run.full + i);
  }
  RC_ASSERT(elements == marked.elements);
}

RC_GTEST_PROP(Runs, KnowHowManyElementsLieBefore, ()) {
  const TensorShape shape = test::random_shape();
  const MarkedRegion marked = test::random_region(shape);
  const RegionMap map(marked.region);
  for (std::int64_t full = 0; full <= elements_of(shape); ++full) {
    const auto before = std::ranges::count_if(marked.elements, [&](auto e) { return e < full; });
    RC_ASSERT(map.count_before(full) == before);
  }
}

RC_GTEST_PROP(Runs, OfTwoRegionsAreTheElementsInBoth, ()) {
  const TensorShape shape = test::random_shape();
  const MarkedRegion first = test::random_region(shape);
  const MarkedRegion second = test::random_region(shape);
  std::vector<std::int64_t> expected, common;
  std::ranges::set_intersection(first.elements, second.elements, std::back_inserter(expected));
  CommonRuns runs(first.region, second.region);
  while (const auto run = runs.next()) {
    RC_ASSERT(run->count > 0);
    for (std::int64_t i = 0; i < run->count; ++i) {
      const auto element = first.elements.at(static_cast<std::size_t>(run->first + i));
      RC_ASSERT(element == second.elements.at(static_cast<std::size_t>(run->second + i)));
      common.push_back(element);
    }
  }
  RC_ASSERT(common == expected);
  RC_ASSERT(common_count(first.region, second.region) == std::ssize(expected));
}

TEST(Runs, OfColumnsAreOneARow) {
  const Region columns({3, 8}, {{1, {{2, 5}}}});
  std::vector<trireme::Run> runs;
  for (const trireme::Run& run : runs_of(columns)) runs.push_back(run);
  EXPECT_THAT(runs,
              ElementsAre(trireme::Run{0, 2, 3}, trireme::Run{3, 10, 3}, trireme::Run{6, 18, 3}));
}

TEST(Runs, OfRowsAreOne) {
  const Region rows({8, 3, 5}, {{0, {{2, 5}}}});
  EXPECT_EQ(*runs_of(rows).begin(), (trireme::Run{0, 30, 45}));
}

TEST(Runs, OfTheEndOfARowAndTheBeginningOfTheNextAreOne) {
  const Region edges({3, 4}, {{1, {{0, 1}, {3, 4}}}});
  std::vector<trireme::Run> runs;
  for (const trireme::Run& run : runs_of(edges)) runs.push_back(run);
  EXPECT_THAT(runs, ElementsAre(trireme::Run{0, 0, 1}, trireme::Run{1, 3, 2}, trireme::Run{3, 7, 2},
                                trireme::Run{5, 11, 1}));
}

// Would not end in this test's time, nor fit into memory, if elements or rows were visited.
TEST(Runs, OfAHugeTensorAreFoundByArithmetic) {
  const std::int64_t rows = std::int64_t{1} << 40;
  const Region left({rows, 1 << 20}, {{1, {{0, 1 << 19}}}});
  const Region right({rows, 1 << 20}, {{1, {{1 << 19, 1 << 20}}}});
  EXPECT_EQ(common_count(left, right), 0);
  EXPECT_EQ(common_count(left, left), left.count());
  EXPECT_FALSE(CommonRuns(left, right.slice({right.count() - 5, right.count()})).next());
  const Region end = Region(left.full_shape()).slice({(rows << 20) - (1 << 20), rows << 20});
  const auto run = CommonRuns(left, end).next();
  ASSERT_TRUE(run);
  EXPECT_EQ(run->first, left.count() - (1 << 19));
  EXPECT_EQ(run->second, 0);
  EXPECT_EQ(run->count, 1 << 19);
}

}  // namespace
}  // namespace trireme
