#pragma once

#include <string>

#include "trireme/cli/terminal.h"
#include "trireme/launch/supervisor.h"

namespace trireme::cli {

/// A failed launch in one box: the rank at fault and not its victims, what ended it, its last
/// lines, where its log lies, and what to do next.
std::string failure_box(const ExitReport& report, const std::string& resume_command,
                        const Terminal& terminal);

}  // namespace trireme::cli
