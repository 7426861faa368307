#include "trireme/plan/schedule.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "trireme/base/error.h"

namespace trireme::plan {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr Action forward(int micro_batch) {
  return {Action::Kind::kForward, micro_batch};
}

constexpr Action backward(int micro_batch) {
  return {Action::Kind::kBackward, micro_batch};
}

std::string complaint(const Schedule& schedule, int micro_batches) {
  try {
    check(schedule, micro_batches);
  } catch (const UsageError& error) {
    return error.what();
  }
  return "accepted";
}

TEST(Schedule, OfASingleStageGoesForwardAndBackwardMicroBatchByMicroBatch) {
  const Schedule schedule = single_stage(3);
  ASSERT_EQ(schedule.stages.size(), 1u);
  EXPECT_THAT(schedule.stages[0], ElementsAre(forward(0), backward(0), forward(1), backward(1),
                                              forward(2), backward(2)));
  for (const int micro_batches : {0, 1, 3, 12}) {
    EXPECT_EQ(complaint(single_stage(micro_batches), micro_batches), "accepted");
  }
}

TEST(Schedule, MayKeepSeveralMicroBatchesUnderWay) {
  EXPECT_EQ(complaint({{{forward(0), forward(1), backward(0), backward(1)},
                        {forward(1), forward(0), backward(0), backward(1)}}},
                      2),
            "accepted");
}

TEST(Schedule, IsRefusedByStageAndMicroBatch) {
  EXPECT_THAT(complaint({{{forward(0), backward(0)}, {forward(0)}}}, 1),
              HasSubstr("stage 1: micro-batch 0 must have a backward pass, has none"));
  EXPECT_THAT(complaint({{{backward(0), forward(0)}}}, 1),
              HasSubstr("micro-batch 0 must have its forward pass before"));
  EXPECT_THAT(complaint({{{forward(0), forward(0), backward(0)}}}, 1), HasSubstr("has two"));
  EXPECT_THAT(complaint({{{forward(0), forward(1), backward(1), backward(0)}}}, 2),
              HasSubstr("micro-batch 1 must have its backward pass in ascending order"));
  EXPECT_THAT(complaint({{{forward(0), backward(0), backward(0)}}}, 1),
              HasSubstr("that of micro-batch 1 is next"));
  EXPECT_THAT(complaint({{{forward(2)}}}, 2), HasSubstr("must lie in [0, 2)"));
}

}  // namespace
}  // namespace trireme::plan
