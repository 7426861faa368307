#include "trireme/optim/loss_scale.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace trireme {
namespace {

// The scale before each of a number of steps; 'o': the gradients of the step overflow.
std::vector<double> scales(LossScale scale, const std::string& steps) {
  std::vector<double> all;
  for (const char step : steps) {
    all.push_back(scale.value());
    if (step == 'o') {
      scale.fall();
    } else {
      scale.count();
    }
  }
  return all;
}

TEST(LossScale, DoublesAfterStepsWithoutOverflowAndIsHalvedByOne) {
  EXPECT_EQ(scales(LossScale(8, 3), "...o....o"),
            (std::vector<double>{8, 8, 8, 16, 8, 8, 8, 16, 16}));
}

TEST(LossScale, CountsFromTheLastOverflow) {
  EXPECT_EQ(scales(LossScale(8, 3), "..o..o..."), (std::vector<double>{8, 8, 8, 4, 4, 4, 2, 2, 2}));
}

TEST(LossScale, NeitherFallsBelowOneNorRisesAbove2To24) {
  LossScale low(2, 1);
  EXPECT_TRUE(low.can_fall());
  low.fall();
  EXPECT_EQ(low.value(), 1);
  EXPECT_FALSE(low.can_fall());
  LossScale high(8388608, 1);
  for (int i = 0; i < 4; ++i) high.count();
  EXPECT_EQ(high.value(), 16777216);
}

TEST(LossScale, GoesOnFromItsState) {
  LossScale scale(8, 3);
  scale.count();
  scale.count();
  LossScale other(1024, 3);
  other.restore(scale.state());
  other.count();
  EXPECT_EQ(other.value(), 16);
}

}  // namespace
}  // namespace trireme
