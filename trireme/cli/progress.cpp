#include "trireme/cli/progress.h"

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <fstream>

namespace trireme::cli {

namespace {

// A signal handler can reach nothing else.
volatile sig_atomic_t stop_signal = 0;

double resident_bytes() {
  std::ifstream statm("/proc/self/statm");
  double total = 0, resident = 0;
  statm >> total >> resident;
  return resident * static_cast<double>(::sysconf(_SC_PAGESIZE));
}

std::string bar(double share, int width) {
  const int full = std::clamp(static_cast<int>(share * width), 0, width);
  std::string text(static_cast<std::size_t>(full), '=');
  if (full < width) text += '>' + std::string(static_cast<std::size_t>(width - full - 1), ' ');
  return "[" + text + "]";
}

std::string metrics_of(const EvaluationReport& report) {
  std::string text = fmt::format("loss {:.4g}", report.loss);
  if (report.accuracy) text += fmt::format(", accuracy {:.2f} %", 100 * *report.accuracy);
  if (report.r2) text += fmt::format(", R2 {:.4f}", *report.r2);
  return text;
}

}  // namespace

void stop_on_signals() {
  struct sigaction action {};
  action.sa_handler = [](int signal) { stop_signal = signal; };
  action.sa_flags = SA_RESTART;
  for (const int signal : {SIGINT, SIGTERM, SIGUSR1}) ::sigaction(signal, &action, nullptr);
}

bool Progress::stop_requested() {
  return stop_signal != 0;
}

void Progress::on_start(const RunDescription& run) {
  run_ = run;
  started_ = shown_ = Clock::now();
  shown_step_ = run.first_step;
  const std::string what = fmt::format(
      "{}, {} parameters; {} samples, {} held back for evaluation", run.model,
      with_commas(run.parameters), with_commas(run.samples), with_commas(run.evaluation_samples));
  const std::string how = fmt::format(
      "{} rank{} x {} thread{}, global batch {}, {} virtual workers, {} steps of {} an epoch",
      run.ranks, run.ranks == 1 ? "" : "s", run.threads, run.threads == 1 ? "" : "s",
      with_commas(run.global_batch), run.virtual_workers, with_commas(run.steps),
      with_commas(run.steps_per_epoch));
  say(what);
  say(how);
  if (run.first_step > 0) say(fmt::format("going on after step {}", with_commas(run.first_step)));
  log(what);
  log(how);
}

void Progress::on_step(const StepReport& report) {
  if (report.gradient_norm) {
    gradient_norm_ = *report.gradient_norm;
    const double all = report.data_seconds + report.compute_seconds + report.communication_seconds;
    data_share_ = report.data_seconds / all;
    compute_share_ = report.compute_seconds / all;
    communication_share_ = report.communication_seconds / all;
    log(numbers(report));
  }
  if (rank_ != 0) return;
  const auto now = Clock::now();
  const auto pause =
      terminal_.is_terminal ? std::chrono::milliseconds(100) : std::chrono::seconds(10);
  if (now - shown_ < pause && report.step < run_.steps) return;
  draw(report, now);
}

std::string Progress::numbers(const StepReport& report) const {
  return fmt::format("step {}/{}  epoch {:.2f}  loss {:.4g}  lr {:.3g}{}", with_commas(report.step),
                     with_commas(run_.steps), report.epoch, report.loss, report.lr,
                     gradient_norm_ < 0 ? "" : fmt::format("  |g| {:.3g}", gradient_norm_));
}

void Progress::draw(const StepReport& report, Clock::time_point now) {
  const double seconds = std::chrono::duration<double>(now - shown_).count();
  const auto steps = static_cast<double>(report.step - shown_step_);
  const double rate = steps * static_cast<double>(run_.global_batch) / std::max(seconds, 1e-9);
  // A mean that forgets: steady on the screen, and quick to follow a change.
  samples_per_second_ = samples_per_second_ == 0 ? rate : 0.9 * samples_per_second_ + 0.1 * rate;
  shown_ = now;
  shown_step_ = report.step;
  const double elapsed = std::chrono::duration<double>(now - started_).count();
  const auto done = static_cast<double>(report.step - run_.first_step);
  const double left = elapsed / done * static_cast<double>(run_.steps - report.step);
  std::string line = numbers(report);
  line += fmt::format("  {} samples/s", with_commas(std::llround(samples_per_second_)));
  if (gradient_norm_ >= 0) {
    line += fmt::format("  data {:.0f}% compute {:.0f}% comm {:.0f}%", 100 * data_share_,
                        100 * compute_share_, 100 * communication_share_);
  }
  line += fmt::format("  {}  {} left", memory_size(resident_bytes()), duration(left));
  if (!terminal_.is_terminal) return terminal_.write(line + "\n");
  const double share = static_cast<double>(report.step) / static_cast<double>(run_.steps);
  line = fmt::format("{:3.0f}% {} {}", 100 * share, bar(share, 20), line);
  terminal_.write("\r\x1b[K" + clipped(line, terminal_.columns() - 1));
  live_ = true;
}

void Progress::on_evaluation(const EvaluationReport& report) {
  const std::string line =
      fmt::format("step {}: {} on {} held-back samples", with_commas(report.step),
                  metrics_of(report), with_commas(report.samples));
  say(line);
  log(line);
}

void Progress::on_checkpoint(const std::filesystem::path& path) {
  const std::string line = fmt::format("checkpoint {}", path.string());
  log(line);
}

void Progress::log(const std::string& line) const {
  const auto now = std::chrono::floor<std::chrono::milliseconds>(std::chrono::system_clock::now());
  fmt::print(stderr, "{:%F %T} {}\n", now, line);
}

void Progress::say(const std::string& line) {
  if (rank_ != 0) return;
  clear();
  terminal_.write(line + "\n");
}

void Progress::clear() {
  if (live_) terminal_.write("\r\x1b[K");
  live_ = false;
}

}  // namespace trireme::cli
