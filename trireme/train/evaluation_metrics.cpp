#include "trireme/train/evaluation_metrics.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <vector>

#include "trireme/base/error.h"
#include "trireme/data/dataset.h"

namespace trireme {

namespace {

std::vector<std::string> metrics_on(const DataSets& data) {
  const Target target = data.train->target();
  std::vector<std::string> names = {"loss", target.is_numbers() ? "r2" : "accuracy"};
  if (target.kind == Target::Kind::kTokens) {
    names.emplace_back("perplexity");
    if (data.evaluation_bytes > 0) names.emplace_back("bits_per_byte");
  }
  return names;
}

}  // namespace

std::map<std::string, double> metrics_of(const EvaluationReport& evaluation) {
  std::map<std::string, double> metrics;
  const auto add = [&](const char* name, const std::optional<double>& value) {
    if (value && std::isfinite(*value)) metrics[name] = *value;
  };
  add("loss", evaluation.loss);
  add("accuracy", evaluation.accuracy);
  add("r2", evaluation.r2);
  add("perplexity", evaluation.perplexity);
  add("bits_per_byte", evaluation.bits_per_byte);
  return metrics;
}

void require_metric(const Config& config, const DataSets& data) {
  if (config.checkpoint.every_steps == 0 || config.checkpoint.keep_best == 0) return;
  if (data.evaluation == nullptr) {
    throw UsageError(fmt::format(
        "checkpoint.keep_best = {} needs samples to evaluate on: set data.holdout or a test file",
        config.checkpoint.keep_best));
  }
  const std::vector<std::string> known = metrics_on(data);
  const std::string& metric = config.evaluation.metric;
  if (std::ranges::count(known, metric) > 0) return;
  throw UsageError(fmt::format(
      "evaluation.metric must be one that evaluations of this data report, {}, got \"{}\"",
      fmt::join(known, ", "), metric));
}

}  // namespace trireme
