#include "trireme/formats/tokenizer/utf8.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <random>
#include <string>

namespace trireme {
namespace {

std::string replacements(int count) {
  std::string text;
  for (int i = 0; i < count; ++i) text += "\xEF\xBF\xBD";
  return text;
}

// Tables 3-8 to 3-11 of the Unicode Standard, version 15.
TEST(Utf8, ReplacesMaximalSubpartsAsTheUnicodeStandardDoes) {
  EXPECT_EQ(replace_not_utf8("\xC0\xAF\xE0\x80\xBF\xF0\x81\x82\x41"), replacements(8) + "A");
  EXPECT_EQ(replace_not_utf8("\xED\xA0\x80\xED\xBF\xBF\xED\xAF\x41"), replacements(8) + "A");
  EXPECT_EQ(replace_not_utf8("\xF4\x91\x92\x93\xFF\x41\x80\xBF\x42"),
            replacements(5) + "A" + replacements(2) + "B");
  EXPECT_EQ(replace_not_utf8("\xE1\x80\xE2\xF0\x91\x92\xF1\xBF\x41"), replacements(4) + "A");
}

TEST(Utf8, ReadsEveryCharacterThatItWrites) {
  for (char32_t character = 0; character <= 0x10FFFF; ++character) {
    if (character >= 0xD800 && character < 0xE000) continue;
    std::string text;
    append_utf8(character, text);
    std::size_t at = 0;
    ASSERT_EQ(next_character(text, at), character);
    ASSERT_EQ(at, text.size());
  }
}

TEST(Utf8, FindsWhatAnotherReaderRefuses) {
  std::mt19937 random(7);
  const std::string bytes =
      "ab \x80\x8F\x90\x9F\xA0\xBF\xC0\xC1\xC2\xDF\xE0\xE1\xED\xEF\xF0\xF1\xF4\xF5\xFF";
  int valid = 0;
  for (int i = 0; i < 20'000; ++i) {
    std::string text(random() % 20, 'x');
    for (unsigned n = random() % 6; n > 0; --n) text += bytes[random() % bytes.size()];
    text += std::string(random() % 20, 'y');
    const bool accepted = nlohmann::json::accept('"' + text + '"');
    valid += accepted ? 1 : 0;
    ASSERT_EQ(find_not_utf8(text) == std::string::npos, accepted) << i;
    ASSERT_EQ(find_not_utf8(replace_not_utf8(text)), std::string::npos);
  }
  EXPECT_GT(valid, 1000);
}

TEST(Utf8, SaysWhereTheFirstWrongByteIs) {
  EXPECT_EQ(find_not_utf8(""), std::string::npos);
  EXPECT_EQ(find_not_utf8(std::string(100, 'a') + "\xC3\xA9\xC3"), 102u);
}

}  // namespace
}  // namespace trireme
