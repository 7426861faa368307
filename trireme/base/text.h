#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace trireme {

/// The candidate with the smallest edit distance (Levenshtein 1966) to `word`, or empty if none is
/// near enough to be what was meant.
std::string nearest(std::string_view word, std::span<const std::string> candidates);

/// "1 step", "2 steps", "3 passes".
std::string counted(std::int64_t number, std::string_view noun);

/// Returns `word` as a POSIX shell must be given it: between single quotes unless it needs none.
std::string shell_quoted(std::string_view word);

}  // namespace trireme
