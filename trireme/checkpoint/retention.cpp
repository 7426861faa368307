#include "trireme/checkpoint/retention.h"

#include <algorithm>
#include <utility>

#include "trireme/base/error.h"
#include "trireme/checkpoint/checkpoint.h"
#include "trireme/checkpoint/step_folder.h"

namespace trireme {

namespace {

using Reasons = std::map<std::int64_t, std::vector<KeptAs>>;

void keep_newest(std::int64_t count, const MetricsByStep& checkpoints, Reasons& kept) {
  std::int64_t left = count > 0 ? count : std::ssize(checkpoints);
  for (auto at = checkpoints.rbegin(); at != checkpoints.rend() && left > 0; ++at, --left) {
    kept[at->first].push_back(KeptAs::kNewest);
  }
}

void keep_every(std::int64_t every, const MetricsByStep& checkpoints, Reasons& kept) {
  std::int64_t last = 0;
  for (const auto& [step, metric] : checkpoints) {
    if (step / every > last) kept[step].push_back(KeptAs::kEvery);
    last = step / every;
  }
}

void keep_best(const Retention& retention, const MetricsByStep& checkpoints, Reasons& kept) {
  std::vector<std::pair<double, std::int64_t>> ranking;
  const double sign = is_higher_better(retention.metric) ? -1 : 1;
  for (const auto& [step, metric] : checkpoints) {
    if (metric) ranking.emplace_back(sign * *metric, step);
  }
  std::ranges::sort(ranking);
  if (std::ssize(ranking) > retention.best) {
    ranking.resize(static_cast<std::size_t>(retention.best));
  }
  for (const auto& [value, step] : ranking) kept[step].push_back(KeptAs::kBest);
}

// A checkpoint whose manifest cannot be read is none of the best.
std::optional<double> metric_in(const std::filesystem::path& folder, const Retention& retention,
                                Files& files) {
  if (retention.best == 0) return std::nullopt;
  try {
    return metric_of(state_of_checkpoint(folder, files), retention.metric);
  } catch (const DataError&) {
    return std::nullopt;
  }
}

}  // namespace

Reasons kept_checkpoints(const Retention& retention, const MetricsByStep& checkpoints) {
  Reasons kept;
  keep_newest(retention.newest, checkpoints, kept);
  if (retention.every_steps > 0) keep_every(retention.every_steps, checkpoints, kept);
  if (retention.best > 0) keep_best(retention, checkpoints, kept);
  return kept;
}

bool is_higher_better(std::string_view metric) {
  return metric == "accuracy" || metric == "r2";
}

std::optional<double> metric_of(const RunState& state, const std::string& metric) {
  const auto section = state.sections.find(sections::kEvaluation);
  if (section == state.sections.end()) return std::nullopt;
  const auto found = section->second.find(metric);
  if (found == section->second.end()) return std::nullopt;
  const auto* value = std::get_if<double>(&found->second);
  return value != nullptr ? std::optional(*value) : std::nullopt;
}

void prune_checkpoints(const std::filesystem::path& directory, std::int64_t written,
                       const Retention& retention, Files& files) {
  if (retention.newest == 0) return;
  MetricsByStep checkpoints;
  for (const auto& [step, path] : complete_checkpoints(directory, files)) {
    if (step > written || files.is_link(path)) continue;
    checkpoints[step] = metric_in(path, retention, files);
  }
  const Reasons kept = kept_checkpoints(retention, checkpoints);
  for (const auto& [step, metric] : checkpoints) {
    if (!kept.contains(step)) StepFolder(directory, step, files).remove();
  }
}

}  // namespace trireme
