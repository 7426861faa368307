#include "trireme/cli/progress.h"

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <fstream>

#include "trireme/base/text.h"
#include "trireme/cli/stop_signals.h"

namespace trireme::cli {

namespace {

double resident_bytes() {
  std::ifstream statm("/proc/self/statm");
  double total = 0, resident = 0;
  statm >> total >> resident;
  return resident * static_cast<double>(::sysconf(_SC_PAGESIZE));
}

std::string metrics_of(const EvaluationReport& report) {
  std::string text = fmt::format("loss {:.4g}", report.loss);
  if (report.accuracy) text += fmt::format(", accuracy {:.2f} %", 100 * *report.accuracy);
  if (report.r2) {
    text += std::isnan(*report.r2) ? ", R2 undefined (all targets are equal)"
                                   : fmt::format(", R2 {:.4f}", *report.r2);
  }
  if (report.perplexity) text += fmt::format(", perplexity {:.4g}", *report.perplexity);
  if (report.bits_per_byte) text += fmt::format(", {:.4f} bits a byte", *report.bits_per_byte);
  return text;
}

// As many as are read at a glance.
std::string list_of(const std::vector<std::string>& names) {
  constexpr std::size_t kShown = 20;
  std::string text;
  for (std::size_t i = 0; i < std::min(names.size(), kShown); ++i) {
    text += fmt::format("{}{}", i > 0 ? ", " : "", names[i]);
  }
  if (names.size() > kShown) text += fmt::format(" and {} more", names.size() - kShown);
  return text;
}

// What is used of a CSV file, a line each.
std::vector<std::string> columns_of(const RunDescription& run) {
  std::vector<std::string> lines;
  if (run.columns.empty()) return lines;
  lines.push_back(
      fmt::format("predicted from {} of {}: {}", run.columns.size(),
                  with_commas(std::ssize(run.columns) + std::ssize(run.unused_columns), "column"),
                  list_of(run.columns)));
  if (!run.unused_columns.empty()) {
    lines.push_back(fmt::format("not used: {}", list_of(run.unused_columns)));
  }
  if (run.dropped_rows > 0) {
    lines.push_back(
        fmt::format("dropped because of missing values: {}", with_commas(run.dropped_rows, "row")));
  }
  if (run.trimmed_labels > 0) {
    lines.push_back(fmt::format("read without the blanks around them: {}",
                                with_commas(run.trimmed_labels, "label")));
  }
  return lines;
}

}  // namespace

bool Progress::stop_requested() {
  return stop_signal() != 0;
}

void Progress::on_start(const RunDescription& run) {
  run_ = run;
  started_ = shown_ = Clock::now();
  shown_epoch_ = static_cast<double>(run.first_step) / static_cast<double>(run.steps_per_epoch);
  const std::string what =
      fmt::format("{}, {}; {}, {} held back for evaluation", run.model,
                  with_commas(run.parameters, "parameter"), with_commas(run.samples, "sample"),
                  with_commas(run.evaluation_samples));
  const bool are_uneven = !run.assignment.empty() &&
                          std::ranges::max(run.assignment) - std::ranges::min(run.assignment) > 1;
  const std::string how =
      fmt::format("{} x {}, global batch {}, {}{}, {} of {} an epoch", counted(run.ranks, "rank"),
                  counted(run.threads, "thread"), with_commas(run.global_batch),
                  counted(run.virtual_workers, "virtual worker"),
                  are_uneven ? fmt::format(" ({})", fmt::join(run.assignment, " + ")) : "",
                  with_commas(run.steps, "step"), with_commas(run.steps_per_epoch));
  const std::string precision =
      run.precision.empty() ? "" : fmt::format("precision: {}", run.precision);
  const std::string joined = fmt::format("communication: {}", run.communication);
  say(what);
  say(how);
  for (const std::string& line : banner_) say(line);
  if (!precision.empty()) say(precision);
  for (const std::string& line : columns_of(run)) say(line);
  if (run.ranks > 1) say(joined);
  if (run.first_step > 0) say(fmt::format("going on after step {}", with_commas(run.first_step)));
  log(what);
  log(how);
  for (const std::string& line : banner_) log(line);
  if (!precision.empty()) log(precision);
  for (const std::string& line : columns_of(run)) log(line);
  if (!run.data_digest.empty()) {
    const std::string digest =
        fmt::format("data digest {} of {}", run.data_digest, run.digest_covers);
    say(digest);
    log(digest);
  }
  log(joined);
  if (!run.not_restored.empty()) {
    log(fmt::format("the checkpoint does not hold {}{}: starting it anew", run.not_restored.front(),
                    run.not_restored.size() == 1
                        ? ""
                        : fmt::format(" and {} more", run.not_restored.size() - 1)));
  }
}

void Progress::on_step(const StepReport& report) {
  if (!report.skipped.empty()) {
    const std::string line = fmt::format("skipped step {}: {}", report.step, report.skipped);
    say(line);
    log(line);
  }
  numbers_.step = report.step;
  numbers_.steps = run_.steps;
  numbers_.epoch = report.epoch;
  numbers_.loss = report.loss;
  numbers_.lr = report.lr;
  if (report.gradient_norm) {
    numbers_.gradient_norm = report.gradient_norm;
    const double all = report.data_seconds + report.compute_seconds + report.communication_seconds;
    numbers_.data_share = report.data_seconds / all;
    numbers_.compute_share = report.compute_seconds / all;
    numbers_.communication_share = report.communication_seconds / all;
    log(step_line(numbers_));
  }
  if (rank_ != 0) return;
  const auto now = Clock::now();
  const auto pause =
      terminal_.is_terminal ? std::chrono::milliseconds(100) : std::chrono::seconds(10);
  if (now - shown_ < pause && report.step < run_.steps) return;
  draw(now);
}

void Progress::draw(Clock::time_point now) {
  const double seconds = std::chrono::duration<double>(now - shown_).count();
  // Samples are counted by epochs, because the last batch of an epoch may be small.
  const double samples = (numbers_.epoch - shown_epoch_) * static_cast<double>(run_.samples);
  const double rate = samples / std::max(seconds, 1e-9);
  // A moving average is steady on the screen and follows a change quickly.
  numbers_.tokens_per_sample = run_.tokens_per_sample;
  double& shown_rate = numbers_.samples_per_second;
  shown_rate = shown_rate == 0 ? rate : 0.9 * shown_rate + 0.1 * rate;
  if (run_.peak_flops > 0) {
    numbers_.arithmetic_share = shown_rate * run_.flops_per_sample / run_.peak_flops;
  }
  shown_ = now;
  shown_epoch_ = numbers_.epoch;
  const double elapsed = std::chrono::duration<double>(now - started_).count();
  const auto done = static_cast<double>(numbers_.step - run_.first_step);
  numbers_.seconds_left = elapsed / done * static_cast<double>(run_.steps - numbers_.step);
  numbers_.memory_bytes = resident_bytes();
  if (!terminal_.is_terminal) return terminal_.write(plain_progress_line(numbers_) + "\n");
  terminal_.write("\r\x1b[K" + live_progress_line(numbers_, terminal_.columns() - 1));
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

void Progress::on_warning(const std::string& text) {
  const std::string line = "warning: " + text;
  say(terminal_.red(line));
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
