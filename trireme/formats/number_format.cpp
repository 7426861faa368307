#include "trireme/formats/number_format.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <limits>

#include "trireme/formats/printable.h"

namespace trireme {

namespace {

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

// The digits of `text` without the groups' separators; nothing if a group has not three digits.
std::optional<std::string> without_groups(std::string_view text, char thousands) {
  std::string digits;
  std::size_t in_group = 0;
  bool has_groups = false;
  for (const char c : text) {
    if (c == thousands) {
      const bool is_complete = has_groups ? in_group == 3 : in_group >= 1 && in_group <= 3;
      if (!is_complete) return std::nullopt;
      has_groups = true;
      in_group = 0;
    } else {
      digits += c;
      ++in_group;
    }
  }
  if (has_groups && in_group != 3) return std::nullopt;
  return digits;
}

void replace_all(std::string& text, std::string_view from, std::string_view to) {
  for (std::size_t at = text.find(from); at != std::string::npos; at = text.find(from, at)) {
    text.replace(at, from.size(), to);
    at += to.size();
  }
}

// Signs that stand before or after a number and belong to its unit.
std::string without_signs(std::string text) {
  constexpr std::array kSigns = {"%", "$", "€", "£", "¥", "_", "\u00A0", "\u202F"};
  for (const char* sign : kSigns) replace_all(text, sign, "");
  replace_all(text, "\u2212", "-");
  if (text.size() > 2 && text.front() == '(' && text.back() == ')') {
    text = "-" + text.substr(1, text.size() - 2);
  }
  const std::size_t first = text.find_first_not_of(' ');
  if (first == std::string::npos) return {};
  return text.substr(first, text.find_last_not_of(' ') - first + 1);
}

// `text` with '.' as the decimal point and without groups; nothing if `text` cannot be a number.
std::optional<std::string> plain_number(std::string_view text, NumberFormat format) {
  std::string plain;
  if (text.starts_with('-')) {
    plain = "-";
    text.remove_prefix(1);
  }
  const std::size_t end = std::min(text.find_first_of("eE"), text.find(format.decimal));
  const std::string_view whole = text.substr(0, end);
  const auto may_be_in_whole = [&](char c) { return is_digit(c) || c == format.thousands; };
  if (!std::ranges::all_of(whole, may_be_in_whole)) return std::nullopt;
  const std::optional<std::string> digits =
      format.thousands == 0 ? std::string(whole) : without_groups(whole, format.thousands);
  if (!digits) return std::nullopt;
  plain += *digits;
  std::string_view rest = text.substr(std::min(end, text.size()));
  if (rest.starts_with(format.decimal)) {
    plain += '.';
    rest.remove_prefix(1);
  }
  return plain.append(rest);
}

std::optional<double> plain_number_of(std::string_view text) {
  double value = 0;
  const char* const end = text.data() + text.size();
  const auto [stop, status] = std::from_chars(text.data(), end, value);
  if (stop != end || status == std::errc::invalid_argument) return std::nullopt;
  if (status == std::errc::result_out_of_range) return std::numeric_limits<double>::infinity();
  if (!std::isfinite(value)) return std::nullopt;
  return value;
}

}  // namespace

std::optional<double> number_of(std::string_view text, NumberFormat format) {
  if (text.size() > 1 && text.front() == '+' && text[1] != '-') text.remove_prefix(1);
  if (format == NumberFormat{}) return plain_number_of(text);
  const std::optional<std::string> plain = plain_number(text, format);
  return plain ? plain_number_of(*plain) : std::nullopt;
}

bool is_number(std::string_view text, NumberFormat format) {
  const std::optional<double> value = number_of(text, format);
  return value && std::isfinite(*value);
}

std::optional<std::string> advice_on_number(std::string_view text, NumberFormat format) {
  // Point or comma last: "1,5" is more often a decimal comma, "1,500" is taken for a group.
  constexpr std::array<NumberFormat, 6> kFormats = {
      {{'.', ','}, {',', 0}, {',', '.'}, {'.', ' '}, {',', ' '}, {'.', '\''}}};
  for (const NumberFormat other : kFormats) {
    if (other == format || !is_number(text, other)) continue;
    std::string keys;
    if (other.decimal != format.decimal) keys = fmt::format("data.decimal = \"{}\"", other.decimal);
    if (other.thousands != format.thousands && other.thousands != 0) {
      keys +=
          fmt::format("{}data.thousands = \"{}\"", keys.empty() ? "" : " and ", other.thousands);
    }
    if (!keys.empty()) return fmt::format("set {} to read it", keys);
  }
  const std::string plain = without_signs(std::string(text));
  if (plain != text && (is_number(plain, format) || advice_on_number(plain, format))) {
    return fmt::format("write it as {} in the file", printable(plain));
  }
  return std::nullopt;
}

}  // namespace trireme
