#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace trireme::cli {

/// The numbers that a progress line shows.
struct ProgressNumbers {
  std::int64_t step = 0;
  std::int64_t steps = 0;
  double epoch = 0;
  double loss = 0;
  double lr = 0;
  std::optional<double> gradient_norm;
  double samples_per_second = 0;
  double seconds_left = 0;
  double data_share = 0, compute_share = 0, communication_share = 0;  ///< of a step's time
  std::int64_t tokens_per_sample = 0;                                 ///< 0: samples are no tokens
  double arithmetic_share = 0;  ///< of what the machine can compute; 0: unknown
  double memory_bytes = 0;      ///< of rank 0
};

/// Returns "step 50/469  epoch 0.11  loss 0.832  lr 0.05  |g| 1.9", the line of a log.
std::string step_line(const ProgressNumbers& numbers);

/// Returns a line with all numbers, for a pipe.
std::string plain_progress_line(const ProgressNumbers& numbers);

/// Returns a line with a bar, for a terminal. It is never longer than `columns`: the least
/// important numbers are left out first.
std::string live_progress_line(const ProgressNumbers& numbers, int columns);

}  // namespace trireme::cli
