#include "trireme/kernels/cast.h"

#include <gtest/gtest.h>

#include <numeric>
#include <vector>

#include "tests/kernels/half.h"
#include "tests/kernels/targets.h"

namespace trireme {
namespace {

constexpr DType kHalfTypes[] = {DType::kF16, DType::kBF16};

TEST(Cast, WidensEveryValueExactlyAndNarrowsItBack) {
  on_every_instruction_set([] {
    for (const DType dtype : kHalfTypes) {
      std::vector<std::uint16_t> all(65'536);
      std::iota(all.begin(), all.end(), std::uint16_t{0});
      std::vector<float> wide(all.size());
      std::vector<std::uint16_t> back(all.size());
      const auto count = static_cast<std::int64_t>(all.size());
      widen({all.data(), count, dtype}, wide.data());
      narrow(wide.data(), {back.data(), count, dtype});
      for (std::size_t i = 0; i < all.size(); ++i) {
        const double value = value_of_half(all[i], exponent_bits_of(dtype));
        if (std::isnan(value)) {
          ASSERT_TRUE(std::isnan(wide[i])) << i;
          ASSERT_TRUE(std::isnan(value_of_half(back[i], exponent_bits_of(dtype)))) << i;
          continue;
        }
        ASSERT_EQ(wide[i], static_cast<float>(value)) << name_of(dtype) << " " << i;
        ASSERT_EQ(std::signbit(wide[i]), std::signbit(value)) << name_of(dtype) << " " << i;
        ASSERT_EQ(back[i], all[i]) << name_of(dtype) << " " << i;
      }
    }
  });
}

TEST(Cast, RoundsToTheNearestTiesToEven) {
  on_every_instruction_set([] {
    for (const DType dtype : kHalfTypes) {
      // 61 of them: whole vectors and a rest on every instruction set.
      std::vector<float> values;
      for (int i = 0; i < 61; ++i) {
        const double sign = i % 2 == 0 ? 1.0 : -1.0;
        values.push_back(static_cast<float>(sign * (1.0 + i / 4096.0) * std::ldexp(1.0, i - 30)));
      }
      std::vector<std::uint16_t> narrowed(values.size());
      narrow(values.data(), {narrowed.data(), static_cast<std::int64_t>(values.size()), dtype});
      std::vector<float> rounded = values;
      round_to(dtype, rounded.data(), rounded.data(), std::ssize(rounded));
      for (std::size_t i = 0; i < values.size(); ++i) {
        const auto nearest = nearest_half(values[i], exponent_bits_of(dtype));
        ASSERT_EQ(narrowed[i], nearest) << name_of(dtype) << " " << values[i];
        ASSERT_EQ(rounded[i], value_of_half(nearest, exponent_bits_of(dtype)))
            << name_of(dtype) << " " << values[i];
      }
    }
  });
}

}  // namespace
}  // namespace trireme
