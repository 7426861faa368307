#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace trireme {

/// A length of time, as a key of the configuration has it.
struct Duration {
  double seconds = 0;
};

/// Reads "3h30m", "1d", "0.5s" or a number of seconds, "3600": numbers with the units d, h, m and
/// s, each at most once and in this order. Returns nothing for any other text.
std::optional<Duration> parse_duration(std::string_view text);

/// Returns the text that reads back as the same duration: "3h30m", "0s".
std::string to_string(Duration duration);

}  // namespace trireme
