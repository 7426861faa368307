#include "trireme/optim/schedule.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <numbers>

#include "trireme/base/error.h"
#include "trireme/base/text.h"
#include "trireme/optim/requirements.h"

namespace trireme {

namespace {

// Goes from `first` at progress 0 to `last` at progress 1 along half a cosine.
double along_cosine(double first, double last, double progress) {
  return last + (first - last) * (1 + std::cos(std::numbers::pi * progress)) / 2;
}

class Constant : public Schedule {
 public:
  explicit Constant(double lr) : lr_(lr) {}
  double lr_at(std::int64_t) const override { return lr_; }

 private:
  double lr_;
};

class StepDecay : public Schedule {
 public:
  StepDecay(double lr, std::int64_t step_size, double gamma)
      : lr_(lr), step_size_(step_size), gamma_(gamma) {}
  double lr_at(std::int64_t step) const override {
    return lr_ * std::pow(gamma_, static_cast<double>(step / step_size_));
  }

 private:
  double lr_;
  std::int64_t step_size_;
  double gamma_;
};

class Cosine : public Schedule {
 public:
  Cosine(double lr, double last, std::int64_t steps) : lr_(lr), last_(last), steps_(steps) {}
  double lr_at(std::int64_t step) const override {
    const double t = static_cast<double>(std::min(step, steps_));
    return along_cosine(lr_, last_, t / static_cast<double>(steps_));
  }

 private:
  double lr_;
  double last_;
  std::int64_t steps_;
};

class Linear : public Schedule {
 public:
  Linear(double lr, double last, std::int64_t steps) : lr_(lr), last_(last), steps_(steps) {}
  double lr_at(std::int64_t step) const override {
    const double t = static_cast<double>(std::min(step, steps_));
    return lr_ + (last_ - lr_) * t / static_cast<double>(steps_);
  }

 private:
  double lr_;
  double last_;
  std::int64_t steps_;
};

class OneCycle : public Schedule {
 public:
  OneCycle(double peak, std::int64_t steps)
      : peak_(peak),
        top_(std::max(0.0, kRise * static_cast<double>(steps) - 1)),
        end_(static_cast<double>(steps - 1)) {}
  double lr_at(std::int64_t step) const override {
    const double t = std::min(static_cast<double>(step), end_);
    const double first = peak_ / kFirstDivisor;
    if (t < top_) return along_cosine(first, peak_, t / top_);
    if (end_ <= top_) return peak_;
    return along_cosine(peak_, first / kLastDivisor, (t - top_) / (end_ - top_));
  }

 private:
  static constexpr double kRise = 0.3;
  static constexpr double kFirstDivisor = 25;
  static constexpr double kLastDivisor = 1e4;

  double peak_;
  double top_;
  double end_;
};

class WarmUp : public Schedule {
 public:
  WarmUp(std::int64_t steps, std::unique_ptr<Schedule> then)
      : steps_(steps), then_(std::move(then)) {}
  double lr_at(std::int64_t step) const override {
    if (step >= steps_) return then_->lr_at(step - steps_);
    return then_->lr_at(0) * static_cast<double>(step + 1) / static_cast<double>(steps_);
  }

 private:
  std::int64_t steps_;
  std::unique_ptr<Schedule> then_;
};

void check(const ScheduleOptions& options) {
  require_positive("schedule", "lr", options.lr);
  require_positive("schedule", "step_size", static_cast<double>(options.step_size));
  require_positive("schedule", "gamma", options.gamma);
  require_not_negative("schedule", "warmup_steps", static_cast<double>(options.warmup_steps));
  require_not_negative("schedule", "min_lr_ratio", options.min_lr_ratio);
  require_not_negative("schedule", "max_lr", options.max_lr);
}

// Schedules that depend on the number of steps need it.
std::int64_t steps_after_warm_up(const ScheduleOptions& options) {
  if (options.total_steps > options.warmup_steps) return options.total_steps - options.warmup_steps;
  throw UsageError(
      fmt::format("schedule {}: total_steps must be more than warmup_steps = {}, got {}",
                  options.name, options.warmup_steps, options.total_steps));
}

std::unique_ptr<Schedule> without_warm_up(const ScheduleOptions& options) {
  const std::string& name = options.name;
  const double lr = options.lr;
  const double last = options.min_lr_ratio * lr;
  if (name == "constant") return std::make_unique<Constant>(lr);
  if (name == "step") return std::make_unique<StepDecay>(lr, options.step_size, options.gamma);
  if (name == "cosine") return std::make_unique<Cosine>(lr, last, steps_after_warm_up(options));
  if (name == "linear") return std::make_unique<Linear>(lr, last, steps_after_warm_up(options));
  if (name == "one_cycle") {
    const double peak = options.max_lr > 0 ? options.max_lr : lr;
    return std::make_unique<OneCycle>(peak, steps_after_warm_up(options));
  }
  const std::string meant = nearest(name, schedule_names());
  throw UsageError(fmt::format("schedule must be one of {}, got \"{}\"{}",
                               fmt::join(schedule_names(), ", "), name,
                               meant.empty() ? "" : fmt::format("; did you mean \"{}\"?", meant)));
}

}  // namespace

std::span<const std::string> schedule_names() {
  static const std::string names[] = {"constant", "step", "cosine", "linear", "one_cycle"};
  return names;
}

std::unique_ptr<Schedule> make_schedule(const ScheduleOptions& options) {
  check(options);
  auto schedule = without_warm_up(options);
  if (options.warmup_steps == 0) return schedule;
  return std::make_unique<WarmUp>(options.warmup_steps, std::move(schedule));
}

}  // namespace trireme
