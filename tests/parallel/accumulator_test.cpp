#include "trireme/parallel/gradients/accumulator.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <vector>

#include "trireme/comm/self/self.h"

namespace trireme {
namespace {

// One rank with six virtual workers: ((0 + 1) + (2 + 3)) + (4 + 5). In f32, 1 + 1e8 is 1e8, so that
// a gradient in the wrong place shows.
TEST(GradientAccumulator, PutsEachMicroBatchInItsPlaceInAnyOrder) {
  const ReductionTree tree(6, 1);
  const BucketLayout::Parameter parameters[] = {{.count = 1}, {.count = 1}, {.count = 1}};
  const BucketLayout layout(parameters, tree, 1 << 20);
  const auto self = self_communicator();
  BucketMemory memory(*self, layout, BucketMemory::Mode::kOwnPlaces);
  GradientAccumulator accumulator(layout, 0, memory);
  const auto add = [&](std::size_t parameter, int micro_batch, float gradient) {
    return accumulator.add(parameter, micro_batch, &gradient);
  };
  accumulator.begin();
  for (int m = 0; m < 6; ++m) EXPECT_FALSE(add(0, m, 1));
  EXPECT_FALSE(add(1, 1, 1));  // deferred beyond all of parameter 0, and none for 0, 2 and 3
  EXPECT_FALSE(add(1, 4, 1e8F));
  EXPECT_FALSE(accumulator.finish(0));
  EXPECT_FALSE(add(1, 5, -1e8F));
  EXPECT_FALSE(accumulator.is_complete(0));
  EXPECT_TRUE(accumulator.finish(5));
  EXPECT_TRUE(accumulator.is_complete(0));

  // Row 0 holds the sum of workers 0 to 3, row 1 that of 4 and 5.
  const auto row = [&](std::size_t parameter, int index) {
    return *layout.row(memory.of(0), 0, parameter, index).as<float>();
  };
  EXPECT_EQ(row(0, 0), 4);
  EXPECT_EQ(row(0, 1), 2);
  EXPECT_EQ(row(1, 0), 1);
  EXPECT_EQ(row(1, 1), 0);
  EXPECT_EQ(row(2, 0), 0);
  EXPECT_EQ(row(2, 1), 0);
  EXPECT_EQ(accumulator.gradients()[0], 6);
  EXPECT_EQ(accumulator.gradients()[1], 3);
  EXPECT_EQ(accumulator.gradients()[2], 0);
}

}  // namespace
}  // namespace trireme
