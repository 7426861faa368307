#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace trireme {

/// How a text file writes numbers: "1234.5", or "1.234,5" with decimal ',' and thousands '.'.
struct NumberFormat {
  char decimal = '.';
  char thousands = 0;  ///< between groups of three digits; 0: there are no groups

  bool operator==(const NumberFormat&) const = default;
};

/// Returns the number that `text` is in `format`, with or without a sign in front: infinity if a
/// double cannot hold it, and nothing if it is no number, for example because a group does not have
/// three digits. "inf" and "nan" are no numbers.
std::optional<double> number_of(std::string_view text, NumberFormat format = {});

/// Returns true if `text` is a number in `format` that a double can hold.
bool is_number(std::string_view text, NumberFormat format = {});

/// Returns what to do about a text that is no number in `format` but is one in another spelling:
/// with a decimal comma, groups of digits, a currency sign, a percent sign, a digit of another
/// script. Returns nothing for other texts.
std::optional<std::string> advice_on_number(std::string_view text, NumberFormat format);

}  // namespace trireme
