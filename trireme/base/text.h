#pragma once

#include <span>
#include <string>
#include <string_view>

namespace trireme {

/// The candidate with the smallest edit distance (Levenshtein 1966) to `word`, or empty if none is
/// near enough to be what was meant.
std::string nearest(std::string_view word, std::span<const std::string> candidates);

}  // namespace trireme
