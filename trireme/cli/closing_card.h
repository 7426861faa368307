#pragma once

#include <string>

#include "trireme/train/report.h"

namespace trireme::cli {

/// What a run came to, for people.
std::string closing_card(const RunSummary& summary);

/// The same for programs.
std::string summary_json(const RunSummary& summary);

}  // namespace trireme::cli
