#pragma once

#include <map>
#include <string>

#include "trireme/config/config.h"
#include "trireme/train/data_sets.h"
#include "trireme/train/report.h"

namespace trireme {

/// Returns the metrics of an evaluation by their names in evaluation.metric: those that it has and
/// that are finite.
std::map<std::string, double> metrics_of(const EvaluationReport& evaluation);

/// Throws UsageError if checkpoints are to be kept by evaluation.metric and evaluations of this
/// data do not report it.
void require_metric(const Config& config, const DataSets& data);

}  // namespace trireme
