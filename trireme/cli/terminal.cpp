#include "trireme/cli/terminal.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cerrno>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <iostream>

#include "trireme/base/error.h"

namespace trireme::cli {

Terminal Terminal::of(int fd) {
  const char* term = std::getenv("TERM");
  const bool dumb = term != nullptr && std::strcmp(term, "dumb") == 0;
  const char* no_color = std::getenv("NO_COLOR");
  Terminal terminal{.fd = fd, .is_terminal = ::isatty(fd) == 1 && !dumb};
  terminal.colors = terminal.is_terminal && (no_color == nullptr || *no_color == '\0');
  return terminal;
}

int Terminal::columns() const {
  winsize window{};
  if (::ioctl(fd, TIOCGWINSZ, &window) == 0 && window.ws_col > 0) return window.ws_col;
  return 80;
}

void Terminal::write(std::string_view text) const {
  while (!text.empty()) {
    const ssize_t n = ::write(fd, text.data(), text.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return;  // the reader is gone
    text.remove_prefix(static_cast<std::size_t>(n));
  }
}

std::string Terminal::bold(std::string_view text) const {
  return colors ? fmt::format("\x1b[1m{}\x1b[0m", text) : std::string(text);
}

std::string Terminal::red(std::string_view text) const {
  return colors ? fmt::format("\x1b[31m{}\x1b[0m", text) : std::string(text);
}

void flush_stdout() {
  errno = 0;
  if (std::cout.flush()) return;
  const int error = errno;
  throw DataError(fmt::format("stdout: cannot write the result{}{}; free space or print elsewhere",
                              error != 0 ? ": " : "", error != 0 ? std::strerror(error) : ""));
}

std::string with_commas(std::int64_t number) {
  std::string digits = std::to_string(number);
  const std::int64_t first = number < 0 ? 1 : 0;
  for (std::int64_t at = static_cast<std::int64_t>(digits.size()) - 3; at > first; at -= 3) {
    digits.insert(static_cast<std::size_t>(at), ",");
  }
  return digits;
}

std::string with_commas(std::int64_t number, std::string_view noun) {
  return fmt::format("{} {}{}", with_commas(number), noun, number == 1 ? "" : "s");
}

std::string duration(double seconds) {
  const auto whole = static_cast<std::int64_t>(std::llround(seconds));
  if (whole < 60) return fmt::format("{} s", whole);
  if (whole < 3600) return fmt::format("{}:{:02}", whole / 60, whole % 60);
  return fmt::format("{}:{:02}:{:02}", whole / 3600, whole / 60 % 60, whole % 60);
}

std::string memory_size(double bytes) {
  if (bytes < 1 << 20) return fmt::format("{:.0f} KiB", bytes / (1 << 10));
  if (bytes < 1 << 30) return fmt::format("{:.0f} MiB", bytes / (1 << 20));
  return fmt::format("{:.1f} GiB", bytes / (1 << 30));
}

std::string clipped(std::string_view text, int columns) {
  int width = 0;
  std::size_t end = 0;
  for (; end < text.size(); ++end) {
    const bool starts_character = (static_cast<unsigned char>(text[end]) & 0xC0) != 0x80;
    if (starts_character && ++width > columns) break;
  }
  return std::string(text.substr(0, end));
}

}  // namespace trireme::cli
