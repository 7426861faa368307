#include "trireme/kernels/norm.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "tests/kernels/targets.h"
#include "trireme/base/error.h"
#include "trireme/base/random.h"

namespace trireme {
namespace {

template <class T>
std::vector<T> normal_values(std::int64_t count) {
  const CounterRandom random(2);
  std::vector<T> values;
  for (std::int64_t i = 0; i < count; ++i) {
    values.push_back(static_cast<T>(random.normal(static_cast<std::uint64_t>(i))));
  }
  return values;
}

// Sixteen partial sums in turn, folded in halves.
template <class T>
double slow_sum_of_squares(const std::vector<T>& x) {
  std::vector<double> sums(16, 0.0);
  for (std::size_t i = 0; i < x.size(); ++i) sums[i % 16] += double(x[i]) * double(x[i]);
  while (sums.size() > 1) {
    const std::size_t half = sums.size() / 2;
    for (std::size_t i = 0; i < half; ++i) sums[i] += sums[i + half];
    sums.resize(half);
  }
  return sums[0];
}

TEST(SumOfSquares, HasTheBitsOfItsDefinitionOnEveryInstructionSet) {
  for (const std::int64_t count : {0, 1, 3, 15, 16, 17, 1000, 100'003}) {
    auto f32 = normal_values<float>(count);
    auto f64 = normal_values<double>(count);
    on_every_instruction_set([&] {
      EXPECT_EQ(sum_of_squares(buffer_of(std::span(f32))), slow_sum_of_squares(f32)) << count;
      EXPECT_EQ(sum_of_squares(buffer_of(std::span(f64))), slow_sum_of_squares(f64)) << count;
    });
  }
}

TEST(SumOfSquares, RefusesIntegers) {
  std::vector<std::int32_t> x(3);
  EXPECT_THROW(sum_of_squares(buffer_of(std::span(x))), UsageError);
}

TEST(AllFinite, FindsTheOneBadValueWhereverItLies) {
  for (const std::size_t count : {1, 17, 5000, 20'000}) {
    for (const std::size_t at : {std::size_t{0}, count / 2, count - 1}) {
      std::vector<float> f32(count, std::numeric_limits<float>::max());
      std::vector<double> f64(count, -std::numeric_limits<double>::max());
      EXPECT_TRUE(all_finite(buffer_of(std::span(f32))));
      EXPECT_TRUE(all_finite(buffer_of(std::span(f64))));
      f32[at] = -std::numeric_limits<float>::infinity();
      f64[at] = std::numeric_limits<double>::quiet_NaN();
      EXPECT_FALSE(all_finite(buffer_of(std::span(f32)))) << at << " of " << count;
      EXPECT_FALSE(all_finite(buffer_of(std::span(f64)))) << at << " of " << count;
    }
  }
}

TEST(AllFinite, HandlesTheHalfTypes) {
  std::uint16_t largest[] = {0x7BFF, 0xFBFF};
  std::uint16_t infinity[] = {0x7BFF, 0xFC00};
  EXPECT_TRUE(all_finite({largest, 2, DType::kF16}));
  EXPECT_FALSE(all_finite({infinity, 2, DType::kF16}));
  std::uint16_t brain_infinity[] = {0x7F7F, 0xFF80};
  EXPECT_TRUE(all_finite({brain_infinity, 1, DType::kBF16}));
  EXPECT_FALSE(all_finite({brain_infinity, 2, DType::kBF16}));
}

TEST(LargestMagnitude, HasTheBitsOfTheSlowLoopOnEveryInstructionSet) {
  for (const std::int64_t count : {0, 1, 7, 17, 1000, 100'003}) {
    auto f32 = normal_values<float>(count);
    auto f64 = normal_values<double>(count);
    double largest_f32 = 0, largest_f64 = 0;
    for (const float x : f32) largest_f32 = std::max(largest_f32, std::fabs(double{x}));
    for (const double x : f64) largest_f64 = std::max(largest_f64, std::fabs(x));
    on_every_instruction_set([&] {
      EXPECT_EQ(largest_magnitude(buffer_of(std::span(f32))), largest_f32) << count;
      EXPECT_EQ(largest_magnitude(buffer_of(std::span(f64))), largest_f64) << count;
    });
  }
}

TEST(LargestMagnitude, ReadsTheHalfTypes) {
  std::uint16_t half[] = {0x3C00, 0xC200, 0x0001};  // 1, -3, 2^-24
  EXPECT_EQ(largest_magnitude({half, 3, DType::kF16}), 3);
  EXPECT_EQ(largest_magnitude({half + 2, 1, DType::kF16}), std::ldexp(1.0, -24));
  std::uint16_t largest[] = {0xFBFF};
  EXPECT_EQ(largest_magnitude({largest, 1, DType::kF16}), largest_finite(DType::kF16));
  std::uint16_t brain[] = {0x3F80, 0xC040};  // 1, -3
  EXPECT_EQ(largest_magnitude({brain, 2, DType::kBF16}), 3);
  std::uint16_t brain_largest[] = {0x7F7F};
  EXPECT_EQ(largest_magnitude({brain_largest, 1, DType::kBF16}), largest_finite(DType::kBF16));
}

TEST(AllFinite, HoldsForIntegers) {
  std::vector<std::int64_t> x(3, -1);
  EXPECT_TRUE(all_finite(buffer_of(std::span(x))));
}

}  // namespace
}  // namespace trireme
