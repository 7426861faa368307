#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

#include "trireme/train/metrics_log.h"
#include "trireme/train/report.h"
#include "trireme/train/trainer.h"

namespace trireme {

/// Tells an observer and metrics.jsonl how a run goes, and adds up its summary.
class Reporter {
 public:
  /// `metrics`: where lines are written; none on ranks other than 0. `observer` must outlive the
  /// reporter. The clock of the run starts here.
  Reporter(Observer& observer, std::optional<MetricsLog> metrics, std::int64_t steps_per_epoch);

  /// Every step is reported to the observer, and those that are due to metrics.jsonl.
  void report(const TrainedStep& step, bool is_due);
  void report(const EvaluationReport& evaluation);

  /// Reports that something could not be written.
  void warn(const std::string& not_written);
  /// Whether the checkpoint that was due last could be written.
  void note_checkpoint(bool is_written) { has_checkpoint_ = is_written; }

  RunSummary finish(std::int64_t steps, bool interrupted, std::filesystem::path directory);

 private:
  using Clock = std::chrono::steady_clock;

  template <class Report>
  void write_metrics(const Report& report);
  void restart_window();

  Observer& observer_;
  std::optional<MetricsLog> metrics_;
  std::int64_t steps_per_epoch_;
  Clock::time_point began_;

  StepReport report_;  // adds up the times since the last report that was due
  std::int64_t samples_ = 0;
  Clock::time_point window_began_;

  RunSummary summary_;
  std::int64_t samples_of_run_ = 0;
  double seconds_of_steps_ = 0;
  bool has_checkpoint_ = true;
  bool has_metrics_ = true;
};

}  // namespace trireme
