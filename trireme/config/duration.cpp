#include "trireme/config/duration.h"

#include <fmt/format.h>

#include <array>
#include <charconv>
#include <cmath>
#include <cstdint>

namespace trireme {

namespace {

struct Unit {
  char name;
  std::int64_t seconds;
};

constexpr std::array<Unit, 4> kUnits = {{{'d', 86400}, {'h', 3600}, {'m', 60}, {'s', 1}}};

// Takes a number from the front of `text`.
std::optional<double> take_number(std::string_view& text) {
  double number = 0;
  const auto [end, error] =
      std::from_chars(text.data(), text.data() + text.size(), number, std::chars_format::general);
  if (error != std::errc() || !std::isfinite(number)) return std::nullopt;
  text.remove_prefix(static_cast<std::size_t>(end - text.data()));
  return number;
}

}  // namespace

std::optional<Duration> parse_duration(std::string_view text) {
  Duration sum;
  const std::optional<double> first = take_number(text);
  if (!first) return std::nullopt;
  if (text.empty()) return Duration{*first};
  std::optional<double> number = first;
  for (const Unit& unit : kUnits) {
    if (!number || text.empty() || text.front() != unit.name) continue;
    sum.seconds += *number * static_cast<double>(unit.seconds);
    text.remove_prefix(1);
    if (text.empty()) return sum;
    number = take_number(text);
  }
  return std::nullopt;
}

std::string to_string(Duration duration) {
  constexpr double kLargest = 1e15;  // of whole numbers that are exact
  const double seconds = duration.seconds;
  if (seconds != std::floor(seconds) || std::abs(seconds) > kLargest || seconds <= 0) {
    return fmt::format("{}s", seconds);
  }
  std::string text;
  auto left = static_cast<std::int64_t>(seconds);
  for (const Unit& unit : kUnits) {
    if (left >= unit.seconds) text += fmt::format("{}{}", left / unit.seconds, unit.name);
    left %= unit.seconds;
  }
  return text;
}

}  // namespace trireme
