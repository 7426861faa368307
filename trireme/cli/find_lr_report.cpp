#include "trireme/cli/find_lr_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <span>
#include <utility>

#include "trireme/base/text.h"

namespace trireme::cli {

namespace {

using Json = nlohmann::ordered_json;

Json json_of(const std::optional<double>& value) {
  return value ? Json(*value) : Json(nullptr);
}

Json json_of(std::span<const plan::LossCurve::Point> points) {
  Json pairs = Json::array();
  for (const plan::LossCurve::Point& point : points) pairs.push_back({point.lr, point.loss});
  return pairs;
}

std::vector<Plot::Point> points_of(std::span<const plan::LossCurve::Point> points) {
  std::vector<Plot::Point> all;
  for (const plan::LossCurve::Point& point : points) all.push_back({point.lr, point.loss});
  return all;
}

}  // namespace

std::int64_t steps_of(const FoundLearningRate& found) {
  std::int64_t steps = 0;
  for (const plan::LossCurve& curve : found.repeats) {
    steps += std::ssize(curve.points) + (curve.first_loss ? 1 : 0) +
             (curve.not_finite_after || !curve.first_loss ? 1 : 0);
  }
  return steps;
}

Plot plot_of(const FoundLearningRate& found) {
  const plan::LearningRateSuggestion& suggestion = found.suggestion;
  Plot plot{.title = "Learning-rate range test", .x_name = "learning rate", .y_name = "loss"};
  for (const plan::LossCurve& curve : found.repeats) {
    plot.lines.push_back({.name = counted(std::ssize(found.repeats), "repeat"),
                          .is_thin = true,
                          .points = points_of(curve.points)});
  }
  plot.lines.push_back({.name = "smoothed", .points = points_of(suggestion.smoothed)});
  if (suggestion.lr) {
    plot.marks.push_back({fmt::format("suggested: {:g}", *suggestion.lr), *suggestion.lr});
  }
  if (suggestion.edge) {
    plot.marks.push_back({fmt::format("edge: {:.2g}", *suggestion.edge), *suggestion.edge});
  }
  // An exploding loss would press the rest of the curve flat.
  const double first = suggestion.first_loss;
  plot.lowest = first;
  for (const plan::LossCurve& curve : found.repeats) {
    for (const auto& point : curve.points) plot.lowest = std::min(plot.lowest, point.loss);
  }
  const double fall = first - plot.lowest;
  plot.highest = first + (fall > 0 ? 0.3 * fall : std::max(1e-9, std::abs(first)));
  return plot;
}

std::string sentence_of(const plan::LearningRateSuggestion& suggestion) {
  if (!suggestion.lr) return "no learning rate is suggested: " + suggestion.reason;
  return fmt::format("optimizer.lr = {}: {}", *suggestion.lr, suggestion.reason);
}

Json json_of(const FoundLearningRate& found) {
  const plan::LearningRateSuggestion& suggestion = found.suggestion;
  Json of_repeats = Json::array(), repeats = Json::array();
  for (const auto& lr : suggestion.of_repeats) of_repeats.push_back(json_of(lr));
  for (const plan::LossCurve& curve : found.repeats) {
    repeats.push_back({{"first_loss", json_of(curve.first_loss)},
                       {"points", json_of(std::span(curve.points))},
                       {"not_finite_after", json_of(curve.not_finite_after)}});
  }
  return {{"from", found.range.from},
          {"to", found.range.to},
          {"steps", steps_of(found)},
          {"lr", json_of(suggestion.lr)},
          {"reason", suggestion.reason},
          {"lr_of_repeats", std::move(of_repeats)},
          {"steepest_lr", json_of(suggestion.steepest)},
          {"lowest_lr", json_of(suggestion.lowest)},
          {"edge_lr", json_of(suggestion.edge)},
          {"first_loss", suggestion.first_loss},
          {"lowest_loss", suggestion.lowest_loss},
          {"noise", suggestion.noise},
          {"smoothed", json_of(std::span(suggestion.smoothed))},
          {"repeats", std::move(repeats)}};
}

}  // namespace trireme::cli
