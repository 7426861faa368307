#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>

namespace trireme {

/// A learning-rate schedule: a pure function of the step, so that resuming needs the step alone.
class Schedule {
 public:
  virtual ~Schedule() = default;

  /// Returns the rate of update `step`, counted from 0. After the last step the rate does not
  /// change.
  virtual double lr_at(std::int64_t step) const = 0;
};

/// With t the step after warm-up and T the steps after warm-up:
///
///     constant   lr
///     step       lr * gamma^floor(t / step_size)
///     cosine     min + (lr - min) * (1 + cos(pi * t / T)) / 2   (Loshchilov and Hutter 2017)
///     linear     lr + (min - lr) * t / T
///     one_cycle  from peak / 25 in the first 30% up to the peak, then down to peak / 250000, each
///                along half a cosine (Smith 2018, "A disciplined approach to neural network
///                hyper-parameters", with the constants that torch gives it)
///
/// where min = min_lr_ratio * lr and peak = max_lr, or lr if that is 0.
struct ScheduleOptions {
  std::string name = "constant";
  double lr = 1e-3;
  /// The first steps rise linearly: step i has (i + 1) / warmup_steps of the schedule's first rate.
  std::int64_t warmup_steps = 0;
  /// Used by cosine, linear and one_cycle; includes the warm-up.
  std::int64_t total_steps = 0;
  std::int64_t step_size = 1000;
  double gamma = 0.1;
  double min_lr_ratio = 0;
  double max_lr = 0;
};

/// The names that make_schedule() knows: constant, step, cosine, linear, one_cycle.
std::span<const std::string> schedule_names();

/// Makes a schedule by name. Throws UsageError for an unknown name or an impossible option.
std::unique_ptr<Schedule> make_schedule(const ScheduleOptions& options);

}  // namespace trireme
