#include "trireme/cli/progress_line.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "trireme/cli/terminal.h"

namespace trireme::cli {

namespace {

struct Part {
  int rank;  // the part with the highest rank is left out first
  std::string text;
};

std::string bar(double share, int width) {
  const int full = std::clamp(static_cast<int>(share * width), 0, width);
  std::string text(static_cast<std::size_t>(full), '=');
  if (full < width) text += '>' + std::string(static_cast<std::size_t>(width - full - 1), ' ');
  return "[" + text + "]";
}

std::vector<Part> step_parts(const ProgressNumbers& n) {
  std::vector<Part> parts = {
      {0, fmt::format("step {}/{}", with_commas(n.step), with_commas(n.steps))},
      {5, fmt::format("epoch {:.2f}", n.epoch)},
      {1, fmt::format("loss {:.4g}", n.loss)},
      {6, fmt::format("lr {:.3g}", n.lr)}};
  if (n.gradient_norm) parts.push_back({7, fmt::format("|g| {:.3g}", *n.gradient_norm)});
  return parts;
}

std::vector<Part> all_parts(const ProgressNumbers& n) {
  std::vector<Part> parts = step_parts(n);
  const bool is_tokens = n.tokens_per_sample > 0;
  const double rate =
      n.samples_per_second * static_cast<double>(is_tokens ? n.tokens_per_sample : 1);
  std::string speed =
      fmt::format("{} {}/s", with_commas(std::llround(rate)), is_tokens ? "tokens" : "samples");
  if (n.arithmetic_share > 0) speed += fmt::format(" ({:.0f}% of peak)", 100 * n.arithmetic_share);
  parts.push_back({3, std::move(speed)});
  if (n.data_share + n.compute_share + n.communication_share > 0) {
    parts.push_back({8, fmt::format("data {:.0f}% compute {:.0f}% comm {:.0f}%", 100 * n.data_share,
                                    100 * n.compute_share, 100 * n.communication_share)});
  }
  parts.push_back({9, memory_size(n.memory_bytes)});
  parts.push_back({2, fmt::format("{} left", duration(n.seconds_left))});
  return parts;
}

std::string joined(const std::vector<Part>& parts) {
  std::string line;
  for (const Part& part : parts) line += (line.empty() ? "" : "  ") + part.text;
  return line;
}

}  // namespace

std::string step_line(const ProgressNumbers& numbers) {
  return joined(step_parts(numbers));
}

std::string plain_progress_line(const ProgressNumbers& numbers) {
  return joined(all_parts(numbers));
}

std::string live_progress_line(const ProgressNumbers& numbers, int columns) {
  constexpr int kBarWidth = 16;
  const double share = numbers.steps > 0
                           ? static_cast<double>(numbers.step) / static_cast<double>(numbers.steps)
                           : 1.0;
  std::vector<Part> parts = all_parts(numbers);
  parts.insert(parts.begin(), {4, fmt::format("{:3.0f}% {}", 100 * share, bar(share, kBarWidth))});
  while (parts.size() > 1 && static_cast<int>(joined(parts).size()) > columns) {
    parts.erase(std::ranges::max_element(parts, {}, &Part::rank));
  }
  return clipped(joined(parts), columns);
}

}  // namespace trireme::cli
