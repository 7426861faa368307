#include "trireme/optim/schedule.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "trireme/base/error.h"

namespace trireme {
namespace {

using testing::DoubleNear;
using testing::HasSubstr;
using testing::Pointwise;
using testing::ThrowsMessage;

std::vector<double> rates(const ScheduleOptions& options, int steps) {
  const auto schedule = make_schedule(options);
  std::vector<double> found;
  for (int step = 0; step < steps; ++step) found.push_back(schedule->lr_at(step));
  return found;
}

MATCHER(IsClose, "") {
  return std::abs(std::get<0>(arg) - std::get<1>(arg)) <= 1e-12 * std::abs(std::get<1>(arg));
}

TEST(Schedule, ConstantStays) {
  EXPECT_THAT(rates({.lr = 0.5}, 3), testing::ElementsAre(0.5, 0.5, 0.5));
}

TEST(Schedule, WarmsUpInEqualSteps) {
  const std::vector<double> wanted = {0.1, 0.2, 0.3, 0.4, 0.4, 0.4};
  EXPECT_THAT(rates({.lr = 0.4, .warmup_steps = 4}, 6), Pointwise(IsClose(), wanted));
}

TEST(Schedule, StepDecaysOnceEveryStepSize) {
  const std::vector<double> wanted = {8, 8, 4, 4, 2, 2, 1};
  EXPECT_THAT(rates({.name = "step", .lr = 8, .step_size = 2, .gamma = 0.5}, 7),
              Pointwise(IsClose(), wanted));
}

TEST(Schedule, CosinePassesTheMiddleHalfWay) {
  const auto found = rates({.name = "cosine", .lr = 1, .total_steps = 6, .min_lr_ratio = 0.2}, 9);
  // cos of 0, 30, 60, ... degrees.
  const double root = std::sqrt(3.0) / 2;
  const std::vector<double> wanted = {
      1, 0.6 + 0.4 * root, 0.8, 0.6, 0.4, 0.6 - 0.4 * root, 0.2, 0.2, 0.2};
  EXPECT_THAT(found, Pointwise(IsClose(), wanted));
}

TEST(Schedule, LinearEndsAtTheSmallestRateAndStaysThere) {
  const std::vector<double> wanted = {1, 0.9, 0.8, 0.7, 0.6, 0.5, 0.5};
  EXPECT_THAT(rates({.name = "linear", .lr = 1, .total_steps = 5, .min_lr_ratio = 0.5}, 7),
              Pointwise(IsClose(), wanted));
}

TEST(Schedule, StartsAfterTheWarmUpAndStillEndsWithTheLastStep) {
  const std::vector<double> wanted = {0.5, 1, 1, 0.75, 0.5, 0.25, 0};
  const auto found = rates({.name = "linear", .lr = 1, .warmup_steps = 2, .total_steps = 6}, 7);
  for (std::size_t i = 0; i < wanted.size(); ++i)
    EXPECT_THAT(found[i], DoubleNear(wanted[i], 1e-15));
}

TEST(Schedule, OneCycleRisesToThePeakAndFallsBelowItsStart) {
  // 10 steps: the peak is at step 0.3 * 10 - 1 = 2, half of the rise at step 1, half of the fall
  // between steps 5 and 6; one half cosine each.
  const double peak = 2.5;
  const double first = 0.1;
  const double last = 1e-5;
  const auto found = rates({.name = "one_cycle", .total_steps = 10, .max_lr = peak}, 12);
  const auto fall = [&](double share) {
    return last + (peak - last) * std::pow(std::cos(std::acos(-1.0) * share / 2), 2);
  };
  std::vector<double> wanted = {first, (first + peak) / 2, peak};
  for (int step = 3; step < 10; ++step) wanted.push_back(fall((step - 2) / 7.0));
  wanted.insert(wanted.end(), {last, last});
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    EXPECT_THAT(found[i], DoubleNear(wanted[i], 1e-12)) << i;
  }
}

TEST(Schedule, OneCycleOfOneStepIsFinite) {
  EXPECT_TRUE(std::isfinite(rates({.name = "one_cycle", .total_steps = 1}, 1)[0]));
}

TEST(Schedule, NamesWhatIsImpossible) {
  const auto expect = [](const ScheduleOptions& options, const std::string& message) {
    EXPECT_THAT([&] { make_schedule(options); }, ThrowsMessage<UsageError>(HasSubstr(message)));
  };
  expect({.name = "cosin"}, "did you mean \"cosine\"?");
  expect({.lr = -1}, "schedule: lr must be a positive number, got -1");
  expect({.warmup_steps = -1}, "schedule: warmup_steps must be at least 0, got -1");
  expect({.name = "linear"}, "total_steps must be more than warmup_steps = 0, got 0");
  expect({.name = "step", .step_size = 0}, "schedule: step_size must be a positive number, got 0");
}

}  // namespace
}  // namespace trireme
