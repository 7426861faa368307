#pragma once

#include <chrono>
#include <string>
#include <utility>
#include <vector>

#include "trireme/cli/progress_line.h"
#include "trireme/cli/terminal.h"
#include "trireme/train/report.h"

namespace trireme::cli {

/// Shows the progress of a run: one live line on a terminal, a plain line now and then elsewhere.
/// Every rank writes its reports to stderr, which the launcher stores as its log; rank 0 also shows
/// them.
class Progress : public Observer {
 public:
  /// `banner`: lines to show at the start, after what the run will do.
  Progress(int rank, Terminal terminal, std::vector<std::string> banner = {})
      : rank_(rank), terminal_(terminal), banner_(std::move(banner)) {}

  void on_start(const RunDescription& run) override;
  void on_step(const StepReport& report) override;
  void on_evaluation(const EvaluationReport& report) override;
  void on_checkpoint(const std::filesystem::path& path) override;
  void on_warning(const std::string& text) override;
  bool stop_requested() override;

  /// Removes the live line.
  void clear();

 private:
  using Clock = std::chrono::steady_clock;

  void log(const std::string& line) const;
  void say(const std::string& line);
  void draw(Clock::time_point now);

  int rank_;
  Terminal terminal_;
  std::vector<std::string> banner_;
  RunDescription run_;
  Clock::time_point started_;
  Clock::time_point shown_;
  double shown_epoch_ = 0;
  ProgressNumbers numbers_;
  bool live_ = false;
};

}  // namespace trireme::cli
