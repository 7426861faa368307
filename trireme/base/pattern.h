#pragma once

#include <string_view>

namespace trireme {

/// Returns true if `text` matches `pattern`, in which * stands for any text, ? for any character
/// and \ before a character for that character. Takes at most text.size() * pattern.size() steps.
bool matches_pattern(std::string_view text, std::string_view pattern);

}  // namespace trireme
