// Learning rates by curves whose answer is known in closed form: gradient descent on a quadratic,
// whose largest stable rate is 2 / curvature, and curves that say nothing.

#include "trireme/plan/learning_rate.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "trireme/base/error.h"
#include "trireme/base/random.h"

namespace trireme::plan {
namespace {

using testing::HasSubstr;

constexpr LearningRateRange kRange{.from = 1e-7, .to = 1e4, .steps = 100};

LossCurve curve_of(const LearningRateRange& range,
                   const std::function<std::optional<double>(std::int64_t step, double lr)>& loss) {
  RangeTest test(range);
  while (!test.has_ended()) {
    const double lr = test.lr();
    test.add(loss(test.steps(), lr));
  }
  return test.curve();
}

// Gradient descent on sum(h * w^2) / 2 from w = 1. `noise`: of a batch, relative to the loss.
LossCurve descend(const std::vector<double>& curvatures, LearningRateRange range, double noise,
                  std::uint64_t seed) {
  const CounterRandom random(seed);
  std::vector<double> w(curvatures.size(), 1.0);
  return curve_of(range, [&](std::int64_t step, double lr) -> std::optional<double> {
    double loss = 0;
    for (std::size_t i = 0; i < w.size(); ++i) {
      loss += curvatures[i] * w[i] * w[i] / 2;
      w[i] *= 1 - lr * curvatures[i];
    }
    loss *= 1 + noise * random.normal(static_cast<std::uint64_t>(step));
    return std::isfinite(loss) ? std::optional(loss) : std::nullopt;
  });
}

std::vector<LossCurve> descents(const std::vector<double>& curvatures,
                                LearningRateRange range = kRange, double noise = 0.1) {
  return {descend(curvatures, range, noise, 1), descend(curvatures, range, noise, 2),
          descend(curvatures, range, noise, 3)};
}

std::vector<LossCurve> noisy(double level, double deviation, std::uint64_t seed, int repeats,
                             const std::function<double(double lr)>& trend) {
  std::vector<LossCurve> curves;
  for (int repeat = 0; repeat < repeats; ++repeat) {
    const CounterRandom random(seed, static_cast<std::uint64_t>(repeat));
    curves.push_back(curve_of({}, [&](std::int64_t step, double lr) {
      return level + trend(lr) + deviation * random.normal(static_cast<std::uint64_t>(step));
    }));
  }
  return curves;
}

TEST(LearningRateRange, GoesFromTheFirstToTheLastRateByOneFactor) {
  const LearningRateRange range{.from = 1e-3, .to = 10, .steps = 101};
  EXPECT_EQ(range.lr_at(0), 1e-3);
  EXPECT_EQ(range.lr_at(99), 10);
  EXPECT_EQ(range.lr_at(100), 10) << "the last step only measures";
  for (int step = 1; step < 100; ++step) {
    EXPECT_NEAR(range.lr_at(step) / range.lr_at(step - 1), std::pow(1e4, 1.0 / 99), 1e-9);
  }
}

TEST(LearningRateRange, RefusesWhatIsNoRange) {
  for (const LearningRateRange& range :
       {LearningRateRange{.from = 0}, LearningRateRange{.from = -1},
        LearningRateRange{.from = 1, .to = 1}, LearningRateRange{.from = std::nan("")},
        LearningRateRange{.to = std::numeric_limits<double>::infinity()},
        LearningRateRange{.steps = 9}}) {
    EXPECT_THROW(check(range), UsageError) << range.from << " " << range.to << " " << range.steps;
  }
}

TEST(RangeTest, PairsEachRateWithTheLossThatFollowsIt) {
  const LossCurve curve = curve_of({.from = 1, .to = 1024, .steps = 12},
                                   [](std::int64_t step, double) { return 100.0 - step; });
  EXPECT_EQ(curve.first_loss, 100);
  ASSERT_EQ(curve.points.size(), 11u);
  for (std::size_t i = 0; i < 11; ++i) {
    EXPECT_NEAR(curve.points[i].lr, std::pow(2, i), 1e-9);
    EXPECT_EQ(curve.points[i].loss, 99.0 - static_cast<double>(i));
  }
  EXPECT_EQ(curve.not_finite_after, std::nullopt);
}

TEST(RangeTest, EndsAfterAStepThatIsNotFinite) {
  const LossCurve curve = curve_of(
      {}, [](std::int64_t step, double) { return step < 7 ? std::optional(1.0) : std::nullopt; });
  EXPECT_EQ(curve.points.size(), 6u);
  EXPECT_EQ(curve.not_finite_after, LearningRateRange{}.lr_at(6));
}

TEST(RangeTest, EndsAfterThreeHighLossesInARowAndNotAfterOutliers) {
  const auto steps_with = [](int high_in_a_row) {
    return curve_of({}, [=](std::int64_t step,
                            double) { return step % 10 >= 10 - high_in_a_row ? 9.0 : 2.0; })
        .points.size();
  };
  EXPECT_EQ(steps_with(2), 99u);
  EXPECT_EQ(steps_with(3), 9u);
}

struct Quadratic {
  std::vector<double> curvatures;  // the largest first
  std::int64_t steps;
};

class Descent : public testing::TestWithParam<Quadratic> {};

TEST_P(Descent, FindsTheEdgeAndStaysBelowTheLargestStableRate) {
  const double stable = 2 / GetParam().curvatures.front();
  LearningRateRange range = kRange;
  range.steps = GetParam().steps;
  for (const double noise : {0.0, 0.05, 0.15}) {
    const LearningRateSuggestion found =
        suggest_learning_rate(descents(GetParam().curvatures, range, noise));
    ASSERT_TRUE(found.lr) << found.reason;
    EXPECT_LT(*found.lr, stable);
    EXPECT_GT(*found.lr, stable / 100) << "noise " << noise;
    ASSERT_TRUE(found.edge);
    // What has shrunk must grow again before it shows.
    EXPECT_GT(*found.edge, stable * 0.8);
    EXPECT_LT(*found.edge, stable * 6.3) << "noise " << noise;
    EXPECT_THAT(found.reason, HasSubstr("3 repeats by themselves: "));
  }
}

INSTANTIATE_TEST_SUITE_P(LearningRate, Descent,
                         testing::Values(Quadratic{{1}, 100}, Quadratic{{10}, 50},
                                         Quadratic{{0.01}, 100}, Quadratic{{1, 0.01}, 100},
                                         Quadratic{{1, 0.3, 0.1, 0.03, 0.01}, 300},
                                         Quadratic{{1000, 100, 10, 1}, 100}));

// However many steps a test takes, the loss is back where it began where the sum of ln|1 - h lr| is
// 0: at h lr = 12.595, the root of the real part of the dilogarithm, 6.3 times the largest stable
// rate.
TEST(LearningRate, EdgeOfManyStepsIsThatOfTheDilogarithm) {
  const LearningRateRange range{.from = 1e-2, .to = 50, .steps = 1000};  // not exactly 1
  const LossCurve curve = descend({1}, range, 0, 1);
  const auto& points = curve.points;
  std::size_t i = points.size() - 1;
  while (points[i].loss > *curve.first_loss) --i;
  EXPECT_NEAR(points[i].lr, 12.595, 0.2);
  const LearningRateSuggestion found = suggest_learning_rate({{curve}});
  EXPECT_LT(found.edge.value(), 12.595);
  EXPECT_GT(found.edge.value(), 8);
}

// At high rates the loss is a parabola in the rate, with noise that does not fall: the suggestion
// is bounded by the edge.
TEST(LearningRate, IsAtMostASixthOfTheEdge) {
  const auto curves = noisy(1, 0.001, 5, 3, [](double lr) {
    return lr < 0.5 ? 0 : lr < 1 ? -0.5 : std::min(3.0, lr - 1);
  });
  const LearningRateSuggestion found = suggest_learning_rate(curves);
  ASSERT_TRUE(found.lr && found.edge) << found.reason;
  EXPECT_LE(*found.lr, *found.edge / 6.3);
  EXPECT_GT(*found.lr, *found.edge / 7.5);
  EXPECT_THAT(found.reason, HasSubstr("a sixth of the edge of divergence"));
}

TEST(LearningRate, ScalesWithTheCurvatureAndNotWithTheLoss) {
  const LearningRateSuggestion one = suggest_learning_rate(descents({1, 0.1}));
  for (const double factor : {0.01, 7.0, 300.0}) {
    const LearningRateSuggestion other = suggest_learning_rate(descents({factor, factor * 0.1}));
    EXPECT_NEAR(std::log10(*other.lr * factor / *one.lr), 0, 0.12) << factor;
  }
  std::vector<LossCurve> moved = descents({1, 0.1});
  for (LossCurve& curve : moved) {
    curve.first_loss = 8 * *curve.first_loss - 3;
    for (LossCurve::Point& point : curve.points) point.loss = 8 * point.loss - 3;
  }
  EXPECT_EQ(suggest_learning_rate(moved).lr, one.lr);
}

TEST(LearningRate, IsNotSuggestedByNoise) {
  for (std::uint64_t seed = 0; seed < 100; ++seed) {
    const int repeats = 1 + static_cast<int>(seed % 4);
    const LearningRateSuggestion found =
        suggest_learning_rate(noisy(2.3, 0.2, seed, repeats, [](double) { return 0; }));
    EXPECT_FALSE(found.lr) << found.reason;
    EXPECT_THAT(found.reason, HasSubstr("never falls by more than its noise"));
    EXPECT_NEAR(found.noise, 0.2, 0.08) << seed;
  }
}

TEST(LearningRate, IsNotSuggestedByALossThatOnlyRises) {
  const LearningRateSuggestion found = suggest_learning_rate(
      noisy(1, 0.01, 3, 2, [](double lr) { return std::min(100.0, 1000 * lr); }));
  EXPECT_FALSE(found.lr);
  ASSERT_TRUE(found.edge);
  EXPECT_LT(*found.edge, 1e-3);
  EXPECT_THAT(found.reason, HasSubstr("begin lower (--from)"));
}

TEST(LearningRate, IsNotSuggestedIfTheLossExplodesAtOnce) {
  const LossCurve curve = descend({1e9}, {.from = 1, .to = 10, .steps = 50}, 0, 1);
  const LearningRateSuggestion found = suggest_learning_rate({{curve}});
  EXPECT_FALSE(found.lr);
  EXPECT_THAT(found.reason, HasSubstr("begin lower (--from)"));

  const LossCurve none = curve_of(
      {}, [](std::int64_t step, double) { return step == 0 ? std::optional(1.0) : std::nullopt; });
  EXPECT_THAT(suggest_learning_rate({{none}}).reason,
              HasSubstr("training diverged within a few steps"));
}

TEST(LearningRate, IsNotSuggestedIfNothingIsFiniteBeforeTheFirstUpdate) {
  const LossCurve curve = curve_of({}, [](std::int64_t, double) { return std::nullopt; });
  EXPECT_THAT(suggest_learning_rate({{curve}}).reason,
              HasSubstr("not finite before the first update"));
}

TEST(LearningRate, SaysThatTheLossStillFallsAtTheLastRate) {
  const LearningRateSuggestion found =
      suggest_learning_rate(descents({1}, {.from = 1e-7, .to = 1e-2, .steps = 100}, 0));
  ASSERT_TRUE(found.lr);
  EXPECT_FALSE(found.edge);
  EXPECT_THAT(found.reason, HasSubstr("go higher (--to)"));
}

TEST(LearningRate, OfOneRepeatThatDivergesEarlyUsesWhatAllHaveSeen) {
  std::vector<LossCurve> curves = descents({1});
  curves[1].points.resize(70);
  curves[1].not_finite_after = curves[0].points[70].lr;
  const LearningRateSuggestion found = suggest_learning_rate(curves);
  ASSERT_TRUE(found.lr);
  EXPECT_LE(found.smoothed.back().lr, curves[1].points.back().lr);
  ASSERT_EQ(found.of_repeats.size(), 3u);
}

TEST(LearningRate, NeedsACurve) {
  EXPECT_THROW(suggest_learning_rate({}), UsageError);
}

}  // namespace
}  // namespace trireme::plan
