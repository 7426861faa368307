#include "trireme/bench/sizes.h"

#include <fmt/format.h>

#include <charconv>

#include "trireme/base/error.h"

namespace trireme::bench {

namespace {

constexpr std::int64_t kLargest = std::int64_t{1} << 44;

// The exponent of 1024 that a unit stands for, or -1.
int exponent_of(std::string_view unit) {
  if (unit.empty() || unit == "B") return 0;
  const std::string_view rest = unit.substr(1);
  if (!rest.empty() && rest != "i" && rest != "B" && rest != "iB") return -1;
  switch (unit.front()) {
    case 'k':
    case 'K':
      return 1;
    case 'm':
    case 'M':
      return 2;
    case 'g':
    case 'G':
      return 3;
    default:
      return -1;
  }
}

}  // namespace

std::int64_t parse_size(std::string_view text) {
  std::int64_t number = 0;
  const char* end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, number);
  const int exponent = exponent_of({rest, static_cast<std::size_t>(end - rest)});
  if (error != std::errc() || exponent < 0 || number <= 0 ||
      number > (kLargest >> (10 * exponent))) {
    throw UsageError(fmt::format(
        "bench: a size must be a number of bytes such as 4, 64Ki or 1M, got \"{}\"", text));
  }
  return number << (10 * exponent);
}

std::vector<std::int64_t> parse_sizes(std::string_view text) {
  std::vector<std::int64_t> sizes;
  for (;;) {
    const std::size_t comma = text.find(',');
    sizes.push_back(parse_size(text.substr(0, comma)));
    if (comma == std::string_view::npos) return sizes;
    text.remove_prefix(comma + 1);
  }
}

std::vector<std::int64_t> sizes_between(std::int64_t smallest, std::int64_t largest,
                                        std::int64_t factor) {
  if (smallest > largest) {
    throw UsageError(fmt::format("bench: --min must be at most --max, got {} and {}",
                                 short_size(smallest), short_size(largest)));
  }
  if (factor < 2)
    throw UsageError(fmt::format("bench: --factor must be 2 or more, got {}", factor));
  std::vector<std::int64_t> sizes;
  for (std::int64_t size = smallest;; size *= factor) {
    sizes.push_back(size);
    if (size > largest / factor) return sizes;
  }
}

std::string short_size(std::int64_t bytes) {
  constexpr const char* kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  int unit = 0;
  for (; unit < 4 && bytes >= 1024 && bytes % 1024 == 0; ++unit) bytes /= 1024;
  return fmt::format("{} {}", bytes, kUnits[unit]);
}

}  // namespace trireme::bench
