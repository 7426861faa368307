#include "trireme/plan/learning_rate.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>
#include <utility>

#include "trireme/base/error.h"
#include "trireme/base/text.h"

namespace trireme::plan {

namespace {

using Point = LossCurve::Point;

constexpr std::int64_t kFewestSteps = 10;
constexpr int kFirstLosses = 5;    // that say where a curve begins
constexpr double kTooHigh = 4;     // times the largest first loss
constexpr int kTooHighInARow = 3;  // not the outliers of a small batch
// On a quadratic of curvature h gradient descent is stable below 2 / h. What has shrunk until then
// must grow again before it shows: however many steps the test takes, the loss is back where it
// began at c / h, with c = 12.595 the root of Re Li2(c) = the integral of ln|1 - t| / t from 0 to
// c.
constexpr double kBelowEdge = 6.3;  // c / 2
constexpr double kRegained = 0.25;  // the part of its fall after which a loss has risen
constexpr double kSignificant = 8;  // standard errors that a fall must exceed
constexpr double kFarOut = 5;       // standard deviations
constexpr double kSmoothedDecades = 0.15;

double median(std::vector<double> values) {
  const auto middle = values.begin() + std::ssize(values) / 2;
  std::ranges::nth_element(values, middle);
  return *middle;
}

// Of the losses of neighbors, which differ by little but their noise.
double noise_of(std::span<const LossCurve> repeats) {
  std::vector<double> differences;
  for (const LossCurve& curve : repeats) {
    for (std::size_t i = 1; i < curve.points.size(); ++i) {
      differences.push_back(std::abs(curve.points[i].loss - curve.points[i - 1].loss));
    }
  }
  constexpr double kDeviationOfMedian = 1.4826;  // of the absolute value of a normal number
  return differences.empty() ? 0 : kDeviationOfMedian * median(differences) / std::numbers::sqrt2;
}

// The median of three neighbors: without the outliers of single batches.
double lowest_of_medians(const LossCurve& curve) {
  double lowest = std::numeric_limits<double>::infinity();
  for (std::size_t i = 2; i < curve.points.size(); ++i) {
    lowest = std::min(
        lowest, median({curve.points[i - 2].loss, curve.points[i - 1].loss, curve.points[i].loss}));
  }
  return lowest;
}

double with_two_digits(double value) {
  const double unit = std::pow(10, std::floor(std::log10(value)) - 1);
  return std::stod(fmt::format("{:.1e}", std::max(1.0, std::floor(value / unit + 1e-9)) * unit));
}

/// The points of all repeats, as far as all of them go.
class PooledCurve {
 public:
  /// `repeats`: each has a first loss.
  explicit PooledCurve(std::span<const LossCurve> repeats) : noise_(noise_of(repeats)) {
    pool(repeats);
    if (rates_.size() < 2) return;
    spacing_ = (rates_.back() - rates_.front()) / static_cast<double>(rates_.size() - 1);
    width_ = std::max(2 * spacing_, kSmoothedDecades * std::numbers::ln10);
    thin_out();
    for (const double rate : rates_) smooth(rate);
  }

  bool is_long_enough() const { return std::ssize(rates_) >= kFewestSteps - 1; }
  std::size_t size() const { return rates_.size(); }
  double lr(std::size_t i) const { return std::exp(rates_[i]); }
  double loss(std::size_t i) const { return smoothed_[i]; }
  double first_loss() const { return first_loss_; }
  double noise() const { return noise_; }

  /// Of the smoothed loss; it is largest at both ends.
  double standard_error(std::size_t i) const { return noise_ * errors_[i]; }

  std::size_t lowest() const {
    return static_cast<std::size_t>(std::ranges::min_element(smoothed_) - smoothed_.begin());
  }
  std::size_t steepest_until(std::size_t last) const {
    return static_cast<std::size_t>(
        std::min_element(slopes_.begin(), slopes_.begin() + static_cast<std::ptrdiff_t>(last) + 1) -
        slopes_.begin());
  }
  /// The first rate from `begin` on with a loss above `level`.
  std::optional<double> rises_above(double level, std::size_t begin) const {
    for (std::size_t i = begin; i < size(); ++i) {
      if (smoothed_[i] > level) return lr(i);
    }
    return std::nullopt;
  }

 private:
  void pool(std::span<const LossCurve> repeats) {
    double end = std::numeric_limits<double>::infinity(), lowest = end;
    std::vector<double> first;
    for (const LossCurve& curve : repeats) {
      end = std::min(end, curve.points.empty() ? 0 : curve.points.back().lr);
      lowest = std::min(lowest, lowest_of_medians(curve));
      first.push_back(*curve.first_loss);
      const std::size_t more = std::min(curve.points.size(), std::size_t{kFirstLosses - 1});
      for (const Point& point : std::span(curve.points).first(more)) first.push_back(point.loss);
    }
    first_loss_ = median(first);
    // How far an exploding loss rises says nothing, and would outweigh its neighbors.
    const double highest = first_loss_ + std::max(kFarOut * noise_, first_loss_ - lowest);
    for (const LossCurve& curve : repeats) {
      for (const Point& point : curve.points) {
        if (point.lr <= end) points_.push_back({std::log(point.lr), std::min(point.loss, highest)});
      }
    }
    std::ranges::sort(points_, {}, &Point::lr);
    for (const Point& point : points_) {
      if (rates_.empty() || point.lr > rates_.back()) rates_.push_back(point.lr);
    }
  }

  // The smoothed curve needs no more places, each of which looks at all points.
  void thin_out() {
    constexpr std::size_t kPlaces = 512;
    if (rates_.size() <= kPlaces) return;
    std::vector<double> places;
    for (std::size_t i = 0; i < kPlaces; ++i) {
      places.push_back(rates_[i * (rates_.size() - 1) / (kPlaces - 1)]);
    }
    rates_ = std::move(places);
  }

  // Fits a line to the points around `rate`, both as ln(lr).
  void smooth(double rate) {
    double weight = 0, x = 0, y = 0, xx = 0, xy = 0;
    double squares = 0, squares_x = 0, squares_xx = 0;  // the same of the squared weights
    for (const Point& point : points_) {
      const double distance = point.lr - rate;
      const double w = std::exp(-distance * distance / (2 * width_ * width_));
      weight += w;
      x += w * distance;
      y += w * point.loss;
      xx += w * distance * distance;
      xy += w * distance * point.loss;
      squares += w * w;
      squares_x += w * w * distance;
      squares_xx += w * w * distance * distance;
    }
    const double determinant = weight * xx - x * x;
    smoothed_.push_back((xx * y - x * xy) / determinant);
    slopes_.push_back((weight * xy - x * y) / determinant);
    // What the line has at `rate` is a sum of the losses, with the factor w * (xx - x * distance) /
    // determinant of each.
    errors_.push_back(std::sqrt(xx * xx * squares - 2 * xx * x * squares_x + x * x * squares_xx) /
                      determinant);
  }

  std::vector<Point> points_;  // lr: its logarithm
  std::vector<double> rates_;  // where the curve is smoothed, in the same way
  std::vector<double> smoothed_, slopes_;
  std::vector<double> errors_;  // of smoothed_, over the noise
  double noise_;
  double first_loss_ = 0, spacing_ = 1, width_ = 1;
};

std::string range_of(std::span<const std::optional<double>> repeats) {
  double least = std::numeric_limits<double>::infinity(), most = 0;
  std::int64_t without = 0;
  for (const auto& lr : repeats) {
    if (lr) {
      least = std::min(least, *lr);
      most = std::max(most, *lr);
    } else {
      ++without;
    }
  }
  std::string text = fmt::format("{} by {}: ", counted(std::ssize(repeats), "repeat"),
                                 repeats.size() == 1 ? "itself" : "themselves");
  if (most == 0) return text + "none";
  text +=
      least == most ? fmt::format("{:.2g}", least) : fmt::format("{:.2g} to {:.2g}", least, most);
  return without == 0 ? text : text + fmt::format(", and {} none", without);
}

std::optional<double> lowest_not_finite(std::span<const LossCurve> repeats) {
  std::optional<double> lowest;
  for (const LossCurve& curve : repeats) {
    if (!curve.not_finite_after) continue;
    lowest = std::min(lowest.value_or(*curve.not_finite_after), *curve.not_finite_after);
  }
  return lowest;
}

LearningRateSuggestion none(std::string reason) {
  LearningRateSuggestion suggestion;
  suggestion.reason = std::move(reason);
  return suggestion;
}

// What the curve says, without a rate. steepest and lowest: if the loss falls by more than its
// noise.
LearningRateSuggestion measured(const PooledCurve& curve) {
  LearningRateSuggestion found;
  for (std::size_t i = 0; i < curve.size(); ++i) {
    found.smoothed.push_back({curve.lr(i), curve.loss(i)});
  }
  const std::size_t lowest = curve.lowest();
  found.noise = curve.noise();
  found.first_loss = curve.first_loss();
  found.lowest_loss = curve.loss(lowest);
  const double fall = found.first_loss - found.lowest_loss;
  const double least = kSignificant * curve.standard_error(lowest);
  if (fall > 0 && fall > least) {
    found.lowest = curve.lr(lowest);
    found.steepest = curve.lr(curve.steepest_until(lowest));
    found.edge = curve.rises_above(found.lowest_loss + std::max(kRegained * fall, least), lowest);
  } else {
    found.edge = curve.rises_above(found.first_loss + least, 0);
  }
  return found;
}

LearningRateSuggestion suggest(std::span<const LossCurve> repeats) {
  if (std::ranges::any_of(repeats, [](const LossCurve& one) { return !one.first_loss; })) {
    return none(
        "the loss or a gradient is not finite before the first update: no learning rate helps; "
        "look at the data and the model's first values");
  }
  const std::optional<double> not_finite = lowest_not_finite(repeats);
  const PooledCurve curve(repeats);
  if (!curve.is_long_enough()) {
    return none("training diverged within a few steps; begin lower (--from)");
  }
  LearningRateSuggestion found = measured(curve);
  const double last = curve.lr(curve.size() - 1);
  const std::string edge =
      found.edge   ? fmt::format("from {:.2g} on the loss rises", *found.edge)
      : not_finite ? fmt::format("after {:.2g} the loss or a gradient is not finite", *not_finite)
                   : fmt::format("no rate up to {:.2g} diverges", last);
  if (!found.edge) found.edge = not_finite;
  if (!found.steepest) {
    found.reason = fmt::format(
        "the loss never falls by more than its noise (from {:.4g} to {:.4g} at best, with a "
        "standard deviation of {:.2g}); {}; take more --steps or --repeats, {}",
        found.first_loss, found.lowest_loss, found.noise, edge,
        found.edge ? "begin lower (--from)" : "or go higher (--to)");
    return found;
  }
  if (!found.edge || *found.steepest <= *found.edge / kBelowEdge) {
    found.lr = with_two_digits(*found.steepest);
    found.reason = fmt::format("the loss falls fastest there, from {:.4g} to {:.4g} in all; {}",
                               found.first_loss, found.lowest_loss, edge);
  } else {
    found.lr = with_two_digits(*found.edge / kBelowEdge);
    found.reason = fmt::format(
        "a sixth of the edge of divergence: {}; it falls fastest at {:.2g}, which is too near",
        edge, *found.steepest);
  }
  if (*found.steepest == curve.lr(0)) {
    found.reason += "; it falls from the lowest rate on: begin lower (--from)";
  }
  if (!found.edge && *found.steepest == last) {
    found.reason += "; it falls faster and faster: go higher (--to)";
  }
  return found;
}

}  // namespace

double LearningRateRange::lr_at(std::int64_t step) const {
  if (step >= rates() - 1) return to;
  return from * std::pow(to / from, static_cast<double>(step) / static_cast<double>(rates() - 1));
}

void check(const LearningRateRange& range) {
  if (!(range.from > 0) || !(range.to > range.from) || !std::isfinite(range.to)) {
    throw UsageError(
        fmt::format("range test: the rates must go from a positive one to a higher one, got {} to "
                    "{}",
                    range.from, range.to));
  }
  if (range.steps < kFewestSteps) {
    throw UsageError(
        fmt::format("range test: {} steps or more are needed, got {}", kFewestSteps, range.steps));
  }
}

RangeTest::RangeTest(const LearningRateRange& range) : range_(range) {
  check(range);
}

void RangeTest::add(std::optional<double> loss) {
  const std::int64_t step = steps_++;
  if (!loss || !std::isfinite(*loss)) {
    if (step > 0) curve_.not_finite_after = range_.lr_at(step - 1);
    has_ended_ = true;
    return;
  }
  if (step == 0) {
    curve_.first_loss = loss;
    largest_at_first_ = *loss;
  } else {
    curve_.points.push_back({range_.lr_at(step - 1), *loss});
    if (step < kFirstLosses) largest_at_first_ = std::max(largest_at_first_, *loss);
  }
  const bool is_high = step >= kFirstLosses && *loss > kTooHigh * std::abs(largest_at_first_);
  high_in_a_row_ = is_high ? high_in_a_row_ + 1 : 0;
  has_ended_ = steps_ == range_.steps || high_in_a_row_ == kTooHighInARow;
}

LearningRateSuggestion suggest_learning_rate(std::span<const LossCurve> repeats) {
  if (repeats.empty())
    throw UsageError("suggest_learning_rate: needs at least one curve, got none");
  LearningRateSuggestion found = suggest(repeats);
  for (const LossCurve& one : repeats) found.of_repeats.push_back(suggest({&one, 1}).lr);
  if (found.lr) found.reason += "; " + range_of(found.of_repeats);
  return found;
}

}  // namespace trireme::plan
