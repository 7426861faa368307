#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace trireme::cli {

/// A file descriptor to which a command writes text for people: a terminal or a pipe.
struct Terminal {
  int fd = 2;
  bool is_terminal = false;  ///< it can rewrite a line; false with TERM=dumb
  bool colors = false;       ///< false with NO_COLOR

  static Terminal of(int fd);

  int columns() const;  ///< of the window at this moment, or 80
  void write(std::string_view text) const;
  std::string bold(std::string_view text) const;
  std::string red(std::string_view text) const;
};

/// Writes what std::cout holds. Throws DataError if it or anything before could not be written.
void flush_stdout();

/// "1,234,567"
std::string with_commas(std::int64_t number);
/// "1 step", "2,000 steps".
std::string with_commas(std::int64_t number, std::string_view noun);

/// "45 s", "2:05", "1:02:03"
std::string duration(double seconds);

/// "1.2 GiB"
std::string memory_size(double bytes);

/// Returns the part of UTF-8 or ASCII `text` that fits in `columns`.
std::string clipped(std::string_view text, int columns);

}  // namespace trireme::cli
