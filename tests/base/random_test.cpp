#include "trireme/base/random.h"

#include <gtest/gtest.h>

#include <cmath>

namespace trireme {
namespace {

// The known-answer vectors of the authors' Random123 distribution for philox4x32, 10 rounds.
TEST(CounterRandom, AgreesWithThePublishedVectors) {
  EXPECT_EQ(CounterRandom(0, 0).words(0),
            (std::array<std::uint32_t, 4>{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  const std::uint64_t ones = ~std::uint64_t{0};
  EXPECT_EQ(CounterRandom(ones, ones).words(ones),
            (std::array<std::uint32_t, 4>{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(CounterRandom(0x299f31d0a4093822, 0x0370734413198a2e).words(0x85a308d3243f6a88),
            (std::array<std::uint32_t, 4>{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(CounterRandom, NormalHasMeanZeroAndVarianceOne) {
  const CounterRandom random(7);
  double sum = 0, squares = 0;
  const int n = 100000;
  for (int i = 0; i < n; ++i) {
    const double x = random.normal(i);
    sum += x;
    squares += x * x;
  }
  EXPECT_NEAR(sum / n, 0, 4 / std::sqrt(n));
  EXPECT_NEAR(squares / n, 1, 4 * std::sqrt(2.0 / n));
}

}  // namespace
}  // namespace trireme
