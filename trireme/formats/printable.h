#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace trireme {

/// `text` between double quotes, fit for an error message whatever a file put into it: quotes and
/// backslashes are escaped, bytes outside printable ASCII written as \xNN, and what is longer than
/// 64 bytes is cut and ends in "...".
std::string printable(std::string_view text);

/// `text` of an unknown sender for a terminal or a log: what could move the cursor, change colors,
/// begin a line or reorder letters (control characters of ASCII and Unicode, marks of direction,
/// bytes that are not UTF-8) is written as \xNN, and what is longer than `longest` bytes is cut and
/// ends in "...".
std::string without_control_characters(std::string_view text, std::size_t longest = 4096);

}  // namespace trireme
