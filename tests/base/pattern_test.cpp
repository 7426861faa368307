#include "trireme/base/pattern.h"

#include <gtest/gtest.h>

#include <string>
#include <string_view>
#include <vector>

namespace trireme {
namespace {

// By the definition: tries every length of each *.
bool slow_match(std::string_view text, std::string_view pattern) {
  if (pattern.empty()) return text.empty();
  if (pattern[0] == '*') {
    for (std::size_t skip = 0; skip <= text.size(); ++skip) {
      if (slow_match(text.substr(skip), pattern.substr(1))) return true;
    }
    return false;
  }
  if (text.empty()) return false;
  if (pattern[0] == '\\' && pattern.size() > 1) {
    return pattern[1] == text[0] && slow_match(text.substr(1), pattern.substr(2));
  }
  return (pattern[0] == '?' || pattern[0] == text[0]) &&
         slow_match(text.substr(1), pattern.substr(1));
}

TEST(Pattern, MatchesNamesOfParameters) {
  EXPECT_TRUE(matches_pattern("blocks.0.mlp.bias", "*.bias"));
  EXPECT_TRUE(matches_pattern("blocks.0.mlp.bias", "blocks.?.*.bias"));
  EXPECT_FALSE(matches_pattern("blocks.0.mlp.bias", "*.weight"));
  EXPECT_FALSE(matches_pattern("bias", "*.bias"));
  EXPECT_TRUE(matches_pattern("a*b", "a\\*b"));
  EXPECT_FALSE(matches_pattern("acb", "a\\*b"));
}

TEST(Pattern, AgreesWithTheDefinitionForAllShortTexts) {
  const std::string letters = "ab", signs = "ab*?\\";
  const auto words = [](const std::string& alphabet, int length) {
    std::vector<std::string> all = {""};
    for (std::size_t i = 0, n = 0; n < static_cast<std::size_t>(length); ++n) {
      const std::size_t end = all.size();
      for (; i < end; ++i) {
        for (const char c : alphabet) all.push_back(all[i] + c);
      }
    }
    return all;
  };
  for (const std::string& pattern : words(signs, 4)) {
    for (const std::string& text : words(letters, 4)) {
      EXPECT_EQ(matches_pattern(text, pattern), slow_match(text, pattern))
          << text << " against " << pattern;
    }
  }
}

TEST(Pattern, TakesNoExponentialTime) {
  std::string pattern;
  for (int i = 0; i < 1000; ++i) pattern += "*a";
  EXPECT_FALSE(matches_pattern(std::string(3000, 'a') + "b", pattern));
}

}  // namespace
}  // namespace trireme
