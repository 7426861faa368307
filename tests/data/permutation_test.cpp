#include "trireme/data/permutation.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "trireme/base/error.h"

namespace trireme {
namespace {

TEST(Permutation, MeetsEveryIndexOnce) {
  std::vector<std::int64_t> sizes = {1, 2, 3, 5, 6, 7, 100, 1000, 12345};
  for (std::int64_t power = 4; power <= 8192; power *= 2) {
    sizes.insert(sizes.end(), {power - 1, power, power + 1});
  }
  for (const std::int64_t n : sizes) {
    const Permutation order(n, 7, 3);
    std::vector<int> met(static_cast<std::size_t>(n));
    for (std::int64_t i = 0; i < n; ++i) {
      const std::int64_t index = order[i];
      ASSERT_TRUE(0 <= index && index < n) << n;
      ++met[static_cast<std::size_t>(index)];
      ASSERT_EQ(order.position(index), i) << n;
    }
    for (const int times : met) ASSERT_EQ(times, 1) << n;
  }
}

TEST(Permutation, IsInvertedAtTheLargestSizes) {
  for (const std::int64_t n : {(std::int64_t{1} << 62) - 1, std::int64_t{1} << 62,
                               (std::int64_t{1} << 61) + 1, (std::int64_t{1} << 33) + 5}) {
    const Permutation order(n, 11);
    for (std::int64_t i = 0; i < 1000; ++i) {
      const std::int64_t position = i % 2 == 0 ? i : n - i;
      const std::int64_t index = order[position];
      ASSERT_TRUE(0 <= index && index < n);
      ASSERT_EQ(order.position(index), position);
    }
  }
}

// Where index 0 (and n - 1) lands over many seeds must be uniform: chi-square with n - 1 degrees of
// freedom, whose standard deviation is sqrt(2 (n - 1)). Eight rounds fail this at 5 and 7.
TEST(Permutation, PutsAnIndexAnywhereWithTheSameChance) {
  for (const std::int64_t n : {2, 3, 4, 5, 7, 16, 37, 64, 100}) {
    for (const std::int64_t index : {std::int64_t{0}, n - 1}) {
      constexpr int kSeeds = 100'000;
      std::vector<double> landed(static_cast<std::size_t>(n));
      for (int seed = 0; seed < kSeeds; ++seed) ++landed[Permutation(n, seed, 1).position(index)];
      const double expected = static_cast<double>(kSeeds) / static_cast<double>(n);
      double chi_square = 0;
      for (const double seen : landed)
        chi_square += (seen - expected) * (seen - expected) / expected;
      const double freedom = static_cast<double>(n - 1);
      EXPECT_LT(chi_square, freedom + 6 * std::sqrt(2 * freedom)) << n;
    }
  }
}

// Neighbors must not stay neighbors: among n positions about 2 pairs differ by one at random.
TEST(Permutation, PartsNeighbors) {
  constexpr std::int64_t kSize = 100'000;
  const Permutation order(kSize, 5);
  int neighbors = 0, rising = 0;
  for (std::int64_t i = 0; i + 1 < kSize; ++i) {
    const std::int64_t step = order[i + 1] - order[i];
    neighbors += step == 1 || step == -1;
    rising += step > 0;
  }
  EXPECT_LT(neighbors, 15);
  // Rising steps of a random permutation have the variance n / 12 about n / 2.
  EXPECT_NEAR(rising, kSize / 2.0, 5 * std::sqrt(kSize / 12.0));
}

TEST(Permutation, IsAnotherOneInEachEpochAndForEachSeed) {
  constexpr std::int64_t kSize = 1000;
  const Permutation one(kSize, 1, 0);
  const auto equal_to = [&](const Permutation& other) {
    int equal = 0;
    for (std::int64_t i = 0; i < kSize; ++i) equal += one[i] == other[i];
    return equal;
  };
  EXPECT_EQ(equal_to(Permutation(kSize, 1, 0)), kSize);
  // One position in a thousand agrees by chance.
  EXPECT_LT(equal_to(Permutation(kSize, 1, 1)), 10);
  EXPECT_LT(equal_to(Permutation(kSize, 2, 0)), 10);
}

TEST(Permutation, RefusesASizeBeyondItsReach) {
  EXPECT_THROW(Permutation((std::int64_t{1} << 62) + 1, 0), UsageError);
  EXPECT_THROW(Permutation(-1, 0), UsageError);
  EXPECT_EQ(Permutation(0, 0).size(), 0);
}

}  // namespace
}  // namespace trireme
