#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace trireme {

/// What next_character() returns for bytes that are not UTF-8. No character has this value.
constexpr char32_t kNotUtf8 = 0xFFFFFFFF;

/// Returns the character that begins at `text[at]` and moves `at` behind it. Bytes that are not
/// UTF-8 are kNotUtf8, as many at a time as the Unicode Standard replaces by one U+FFFD (section
/// 3.9, "maximal subparts"). `at` must be below text.size().
char32_t next_character(std::string_view text, std::size_t& at);

void append_utf8(char32_t character, std::string& text);

/// Returns where the first byte that is not UTF-8 stands, or npos.
std::size_t find_not_utf8(std::string_view text);

/// Returns `text` with U+FFFD in place of what is not UTF-8.
std::string replace_not_utf8(std::string_view text);

/// `'é' (U+00E9)` for messages; the value alone for what cannot be shown.
std::string shown_character(char32_t character);

}  // namespace trireme
