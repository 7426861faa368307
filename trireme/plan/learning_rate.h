#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace trireme::plan {

/// The rates of a learning-rate range test (Smith 2017, "Cyclical Learning Rates for Training
/// Neural Networks", section 3.3): from `from` to `to`, each the same factor above the one before.
struct LearningRateRange {
  double from = 1e-7;
  double to = 10;
  /// Training steps of a repeat. The last one only measures what the rate before it has led to.
  std::int64_t steps = 100;

  std::int64_t rates() const { return steps - 1; }
  double lr_at(std::int64_t step) const;  ///< step: from 0; after the last rate it does not change
};

/// Throws UsageError unless 0 < from < to, both finite, and there are at least 10 steps.
void check(const LearningRateRange& range);

/// What one repeat has seen.
struct LossCurve {
  struct Point {
    double lr = 0;
    double loss = 0;  ///< of the batch that follows the update with `lr`
  };
  std::optional<double> first_loss;  ///< before any update; none: it was not finite
  std::vector<Point> points;         ///< ascending in lr
  /// The rate after whose update a loss or gradient was not finite; none: all were.
  std::optional<double> not_finite_after;
};

/// One repeat of a range test: says the rate of the next step, and when to end.
///
///     RangeTest test(range);
///     while (!test.has_ended()) test.add(loss_of_a_step_with(test.lr()));
class RangeTest {
 public:
  explicit RangeTest(const LearningRateRange& range);

  double lr() const { return range_.lr_at(steps_); }

  /// Takes the loss of a step as it was before the step's update; none or not a finite number: the
  /// loss or a gradient was not finite, and nothing was updated.
  void add(std::optional<double> loss);

  /// True after the last step, after one that was not finite, and after three in a row with a loss
  /// above 4 times the largest of the first five.
  bool has_ended() const { return has_ended_; }
  std::int64_t steps() const { return steps_; }
  const LossCurve& curve() const { return curve_; }

 private:
  LearningRateRange range_;
  LossCurve curve_;
  std::int64_t steps_ = 0;
  int high_in_a_row_ = 0;
  double largest_at_first_ = 0;
  bool has_ended_ = false;
};

/// A learning rate, and what the curves say about it.
struct LearningRateSuggestion {
  /// With two significant digits. None: `reason` says why, and what to try.
  std::optional<double> lr;
  std::string reason;
  std::optional<double> steepest;  ///< where the loss falls fastest
  std::optional<double> lowest;    ///< where it is lowest
  /// The edge of divergence: from here on the loss rises. None: it does not up to the last rate.
  std::optional<double> edge;
  double first_loss = 0;                          ///< at the lowest rates
  double lowest_loss = 0;                         ///< smoothed
  double noise = 0;                               ///< standard deviation of a batch's loss
  std::vector<std::optional<double>> of_repeats;  ///< what each repeat alone would suggest
  std::vector<LossCurve::Point> smoothed;         ///< over all repeats, at their rates
};

/// Suggests a learning rate by the curves of all repeats together: the rate where the smoothed loss
/// falls fastest over the logarithm of the rate, but at most the edge of divergence over 6.3, which
/// is below the largest stable rate of gradient descent on a quadratic. Suggests none if the loss
/// does not fall by more than its noise.
///
/// The loss is smoothed by local linear regression over ln(lr) with Gaussian weights (Cleveland
/// 1979), which does not lag as a moving average does. Nothing changes if a number is added to all
/// losses, or if they are multiplied by a positive one. `repeats`: at least one.
LearningRateSuggestion suggest_learning_rate(std::span<const LossCurve> repeats);

}  // namespace trireme::plan
