#include "trireme/train/reporter.h"

#include <utility>

#include "trireme/base/error.h"

namespace trireme {

namespace {

double seconds_since(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

}  // namespace

Reporter::Reporter(Observer& observer, std::optional<MetricsLog> metrics,
                   std::int64_t steps_per_epoch)
    : observer_(observer),
      metrics_(std::move(metrics)),
      steps_per_epoch_(steps_per_epoch),
      began_(Clock::now()),
      window_began_(began_) {}

void Reporter::report(const TrainedStep& step, bool is_due) {
  samples_ += step.samples;
  samples_of_run_ += step.samples;
  seconds_of_steps_ += step.seconds;
  report_.skipped = step.skipped;
  if (step.skipped.empty()) {
    summary_.loss = step.loss;
  } else {
    ++report_.skipped_steps;
    ++summary_.skipped_steps;
  }
  summary_.traffic += step.traffic;
  report_.step = step.step;
  report_.epoch = static_cast<double>(step.step) / static_cast<double>(steps_per_epoch_);
  report_.loss = summary_.loss.value_or(step.loss);
  report_.lr = step.lr;
  report_.gradient_norm = step.gradient_norm;
  report_.loss_scale = step.loss_scale;
  report_.data_seconds += step.data_seconds;
  report_.compute_seconds += step.compute_seconds;
  report_.communication_seconds += step.communication_seconds;
  report_.traffic += step.traffic;
  if (!is_due) return observer_.on_step(report_);
  report_.samples_per_second = static_cast<double>(samples_) / seconds_since(window_began_);
  observer_.on_step(report_);
  write_metrics(report_);
  report_ = StepReport();
  restart_window();
}

void Reporter::report(const EvaluationReport& evaluation) {
  summary_.evaluation = evaluation;
  observer_.on_evaluation(evaluation);
  write_metrics(evaluation);
  restart_window();
}

// Lines that are missing are no reason to lose the run; the first of them is reported.
template <class Report>
void Reporter::write_metrics(const Report& report) {
  if (!metrics_) return;
  try {
    metrics_->write(report);
  } catch (const DataError& error) {
    if (has_metrics_) warn(error.what());
    has_metrics_ = false;
  }
}

void Reporter::warn(const std::string& not_written) {
  summary_.not_written.push_back(not_written);
  observer_.on_warning(not_written);
}

void Reporter::restart_window() {
  samples_ = 0;
  window_began_ = Clock::now();
}

RunSummary Reporter::finish(std::int64_t steps, bool interrupted, std::filesystem::path directory) {
  summary_.steps = steps;
  summary_.interrupted = interrupted;
  summary_.seconds = seconds_since(began_);
  if (seconds_of_steps_ > 0) {
    summary_.samples_per_second = static_cast<double>(samples_of_run_) / seconds_of_steps_;
  }
  summary_.directory = std::move(directory);
  summary_.is_complete = has_checkpoint_ && has_metrics_;
  return summary_;
}

}  // namespace trireme
