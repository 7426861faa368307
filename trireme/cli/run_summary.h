#pragma once

#include <string>

#include "trireme/train/report.h"

namespace trireme::cli {

/// Returns the result of a run, for people.
std::string summary_text(const RunSummary& summary);

/// Returns the result of a run as JSON; the loss is null if no step was made.
std::string summary_json(const RunSummary& summary);

}  // namespace trireme::cli
