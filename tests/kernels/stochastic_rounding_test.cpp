#include "trireme/kernels/stochastic_rounding.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <set>
#include <vector>

namespace trireme {
namespace {

constexpr float kUlp = 0.0078125f;  // of bf16 from 1 to 2: 2^-7

std::vector<float> rounded(std::vector<float> values, std::uint64_t first = 0) {
  round_stochastically_to_bf16(values.data(), std::ssize(values), CounterRandom(7, 1), first);
  return values;
}

TEST(StochasticRounding, GivesANeighborAndIsRightInTheMean) {
  constexpr int kCount = 100'000;
  for (const float share : {0.0f, 0.1f, 0.5f, 0.9f}) {
    for (const float sign : {1.0f, -1.0f}) {
      int far = 0;
      for (const float value : rounded(std::vector<float>(kCount, sign * (1 + share * kUlp)))) {
        ASSERT_TRUE(value == sign || value == sign * (1 + kUlp)) << value;
        far += value != sign;
      }
      // Six standard deviations.
      EXPECT_NEAR(far, kCount * share, 6 * std::sqrt(kCount * share * (1 - share)) + 1);
    }
  }
}

TEST(StochasticRounding, KeepsWhatBf16HoldsAndWhatIsNotFinite) {
  const float infinity = std::numeric_limits<float>::infinity();
  EXPECT_EQ(rounded({0, -0.0f, 1.5f, infinity, -infinity}),
            (std::vector<float>{0, -0.0f, 1.5f, infinity, -infinity}));
  EXPECT_TRUE(std::isnan(rounded({std::nanf("")})[0]));
}

TEST(StochasticRounding, DoesNotDependOnHowValuesAreCut) {
  std::vector<float> values;
  for (int i = 0; i < 103; ++i) values.push_back(1 + 0.013f * static_cast<float>(i));
  const std::vector<float> whole = rounded(values);
  for (const std::size_t cut : {1u, 2u, 5u, 60u}) {
    std::vector<float> parts = rounded({values.begin(), values.begin() + cut});
    for (const float value : rounded({values.begin() + cut, values.end()}, cut)) {
      parts.push_back(value);
    }
    EXPECT_EQ(parts, whole) << cut;
  }
}

}  // namespace
}  // namespace trireme
