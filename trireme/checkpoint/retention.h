#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "trireme/base/files.h"
#include "trireme/checkpoint/run_state.h"

namespace trireme {

/// Which checkpoints of a run are kept.
struct Retention {
  std::int64_t newest = 2;       ///< checkpoints of the last steps; 0: all of them
  std::int64_t every_steps = 0;  ///< the first of each so many steps is kept for ever; 0: none
  std::int64_t best = 0;         ///< checkpoints with the best metric; 0: none
  std::string metric = "loss";   ///< in the section "evaluation" of a checkpoint
};

/// Why a checkpoint is kept.
enum class KeptAs { kNewest, kEvery, kBest };

/// The metric of each checkpoint by its step; none: it is not known.
using MetricsByStep = std::map<std::int64_t, std::optional<double>>;

/// Returns the checkpoints to keep, by step, with the reasons. Those of steps 0 to every_steps - 1
/// are not kept as a first; of equal metrics, that of the lowest step is the best. Pure.
std::map<std::int64_t, std::vector<KeptAs>> kept_checkpoints(const Retention& retention,
                                                             const MetricsByStep& checkpoints);

/// Returns true if a higher value of the metric is better: accuracy and r2. A lower one is better
/// of all others.
bool is_higher_better(std::string_view metric);

/// Returns what an evaluation of the checkpoint has found, if it was evaluated.
std::optional<double> metric_of(const RunState& state, const std::string& metric);

/// Removes from `directory` the checkpoints of lower steps than `written` that are not kept.
/// Symbolic links stay. Throws DataError.
void prune_checkpoints(const std::filesystem::path& directory, std::int64_t written,
                       const Retention& retention, Files& files);

}  // namespace trireme
