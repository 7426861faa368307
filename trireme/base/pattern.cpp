#include "trireme/base/pattern.h"

namespace trireme {

namespace {

// The character that the pattern has at `at`, and how long it is written there.
struct Literal {
  char character = 0;
  std::size_t length = 1;
};

Literal literal_at(std::string_view pattern, std::size_t at) {
  if (pattern[at] == '\\' && at + 1 < pattern.size()) return {pattern[at + 1], 2};
  return {pattern[at], 1};
}

}  // namespace

bool matches_pattern(std::string_view text, std::string_view pattern) {
  std::size_t t = 0, p = 0;
  // Where to go on if what follows the last * does not match: the * takes one character more.
  std::size_t after_star = pattern.npos, star_end = 0;
  while (t < text.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      after_star = ++p;
      star_end = t;
      continue;
    }
    if (p < pattern.size()) {
      const Literal literal = literal_at(pattern, p);
      if (pattern[p] == '?' || literal.character == text[t]) {
        p += literal.length;
        ++t;
        continue;
      }
    }
    if (after_star == pattern.npos) return false;
    p = after_star;
    t = ++star_end;
  }
  while (p < pattern.size() && pattern[p] == '*') ++p;
  return p == pattern.size();
}

}  // namespace trireme
