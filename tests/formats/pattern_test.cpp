#include "trireme/formats/tokenizer/pattern.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "tests/formats/error_of.h"
#include "trireme/base/error.h"
#include "trireme/formats/tokenizer/utf8.h"

namespace trireme {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::vector<std::string> matches(const Pattern& pattern, std::string_view text) {
  std::vector<std::string> found;
  pattern.for_each_match(text, [&](std::size_t begin, std::size_t end) {
    found.emplace_back(text.substr(begin, end - begin));
  });
  return found;
}

std::vector<std::size_t> ends(const Pattern& pattern, std::string_view text) {
  std::vector<std::size_t> found;
  pattern.for_each_match(text, [&](std::size_t, std::size_t end) { found.push_back(end); });
  return found;
}

struct ByHand {
  const char* name;
  const char* expression;
};

class PatternByHand : public testing::TestWithParam<ByHand> {
 protected:
  const std::unique_ptr<Pattern> by_hand_ = compile_pattern(GetParam().expression);
  const std::unique_ptr<Pattern> by_icu_ = icu_pattern(GetParam().expression);
};

TEST_P(PatternByHand, CutsEachCharacterAsTheExpressionDoes) {
  // Each character behind and before a letter, a digit, a mark, a blank and itself.
  std::string text;
  const auto check = [&] {
    // Too long to print.
    ASSERT_TRUE(ends(*by_hand_, text) == ends(*by_icu_, text)) << text.substr(0, 100);
    text.clear();
  };
  for (char32_t character = 0; character <= 0x10FFFF; ++character) {
    if (character >= 0xD800 && character < 0xE000) continue;
    std::string c;
    append_utf8(character, c);
    // Most planes are empty or all alike.
    if (character >= 0x3000 && character % 7 != 0) continue;
    if (character >= 0x30000 && character % 97 != 0) continue;
    text += "a" + c + "1" + c + "!" + c + " " + c + c + "  " + c + "\n'" + c;
    if (text.size() > 100'000) check();
  }
  check();
}

TEST_P(PatternByHand, CutsRandomTextsAsTheExpressionDoes) {
  const std::vector<std::string> parts = {"a",
                                          "Z",
                                          "é",
                                          "中",
                                          "1",
                                          "²",
                                          "٣",
                                          "22",
                                          "!",
                                          "'",
                                          "'s",
                                          "'t",
                                          "'re",
                                          "'ve",
                                          "'m",
                                          "'ll",
                                          "'d",
                                          "'S",
                                          "'rE",
                                          "'VE",
                                          "'lL",
                                          "'\u017f",
                                          "\u017f",
                                          "\u212a",
                                          " ",
                                          "  ",
                                          "\n",
                                          "\r",
                                          "\t",
                                          "\r\n",
                                          "\u00a0",
                                          "\u0085",
                                          "\u180e",
                                          "\u200b",
                                          "\u2028",
                                          "\u3000",
                                          "\ufeff",
                                          "😀",
                                          "\u0301",
                                          "_",
                                          std::string(1, '\0'),
                                          "\xFF",
                                          "\xC3",
                                          "\xE2\x82"};
  std::mt19937 random(11);
  for (int i = 0; i < 20'000; ++i) {
    std::string text;
    for (unsigned n = random() % 12; n > 0; --n) text += parts[random() % parts.size()];
    ASSERT_EQ(ends(*by_hand_, text), ends(*by_icu_, text)) << testing::PrintToString(text);
  }
}

INSTANTIATE_TEST_SUITE_P(Known, PatternByHand,
                         testing::Values(ByHand{"Gpt2", kGpt2Expression},
                                         ByHand{"Llama3", kLlama3Expression},
                                         ByHand{"Qwen2", kQwen2Expression}),
                         [](const auto& test) { return test.param.name; });

// The example of the GPT-2 paper's code and what its last alternatives are for.
TEST(Gpt2Pattern, LeavesABlankToTheNextWord) {
  EXPECT_THAT(matches(*gpt2_pattern(), "I'll go  there \n"),
              ElementsAre("I", "'ll", " go", " ", " there", " \n"));
}

TEST(IcuPattern, KnowsClassesGroupsAndLookahead) {
  const auto llama3 = icu_pattern(kLlama3Expression);
  EXPECT_THAT(matches(*llama3, "He'LL pay 12345é!\n\n  x"),
              ElementsAre("He", "'LL", " pay", " ", "123", "45", "é", "!\n\n", " ", " x"));
}

TEST(IcuPattern, KeepsItsPlaceBehindCharactersOfAnySize) {
  EXPECT_THAT(matches(*icu_pattern("x+"), "é😀x\xFFxx\xE2\x82x中x"),
              ElementsAre("x", "xx", "x", "x"));
}

TEST(IcuPattern, SaysWhatItDoesNotUnderstand) {
  EXPECT_THAT(error_of<DataError>([] { icu_pattern("a(b"); }),
              HasSubstr("the pattern \"a(b\" is not understood: U_REGEX_MISMATCHED_PAREN"));
}

TEST(LiteralPattern, FindsEachPlace) {
  EXPECT_THAT(ends(*literal_pattern("aa"), "aaaab aa"), ElementsAre(2, 4, 8));
  EXPECT_THAT(ends(*literal_pattern(""), "aa"), ElementsAre());
}

}  // namespace
}  // namespace trireme
