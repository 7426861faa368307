#pragma once

#include <string>

#include "trireme/cli/terminal.h"
#include "trireme/launch/supervisor.h"

namespace trireme::cli {

/// Returns a report of a failed launch: the rank that failed first, what ended it, its last lines,
/// the path of its log, and what to do next.
std::string failure_report(const ExitReport& report, const std::string& resume_command,
                           const Terminal& terminal);

}  // namespace trireme::cli
