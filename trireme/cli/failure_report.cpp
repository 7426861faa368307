#include "trireme/cli/failure_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

namespace trireme::cli {

std::string failure_report(const ExitReport& report, const std::string& resume_command,
                           const Terminal& terminal) {
  constexpr std::size_t kShownLines = 8;
  std::vector<std::string> lines;
  lines.push_back(fmt::format("rank {} of {}: {}", report.first_rank + report.failed_rank,
                              report.world_size, report.explanation));
  const auto& last = report.last_lines;
  if (!last.empty()) lines.push_back("its last lines:");
  for (std::size_t i = last.size() - std::min(last.size(), kShownLines); i < last.size(); ++i) {
    lines.push_back("  " + last[i]);
  }
  if (!report.log.empty()) lines.push_back("log: " + report.log);
  if (!resume_command.empty()) lines.push_back("resume with: " + resume_command);

  // There is no frame at the right, so that long lines can be copied.
  const int width = std::clamp(terminal.columns() - 2, 10, 78);
  std::string rule;
  for (int i = 0; i < width; ++i) rule += "─";
  std::string box = terminal.red("┌" + rule) + "\n";
  for (const std::string& line : lines) box += terminal.red("│ ") + line + "\n";
  return box + terminal.red("└" + rule) + "\n";
}

}  // namespace trireme::cli
