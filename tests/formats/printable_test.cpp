#include "trireme/formats/printable.h"

#include <gtest/gtest.h>

#include <string>

namespace trireme {
namespace {

TEST(WithoutControlCharacters, LeavesTextsOfPeopleAsTheyAre) {
  for (const char* text : {"", "rank 2 is lost: killed by signal 9", "é, 中文, עברית and 🚢"}) {
    EXPECT_EQ(without_control_characters(text), text);
  }
}

TEST(WithoutControlCharacters, ShowsWhatATerminalWouldObey) {
  EXPECT_EQ(without_control_characters("a\x1b[2Jb\r\nc\x7f"), "a\\x1b[2Jb\\x0d\\x0ac\\x7f");
  // C1 of Unicode: some terminals take it for ESC [.
  EXPECT_EQ(without_control_characters("\xc2\x9b"
                                       "31m"),
            "\\xc2\\x9b31m");
  // Right-to-left override, zero-width space, byte order mark.
  EXPECT_EQ(without_control_characters("\xe2\x80\xae|\xe2\x80\x8b|\xef\xbb\xbf"),
            "\\xe2\\x80\\xae|\\xe2\\x80\\x8b|\\xef\\xbb\\xbf");
}

TEST(WithoutControlCharacters, ShowsBytesThatAreNoUtf8) {
  // Alone, overlong, a surrogate, above the last character, cut off.
  EXPECT_EQ(without_control_characters("\xff"), "\\xff");
  EXPECT_EQ(without_control_characters("\xc0\x9b"), "\\xc0\\x9b");
  EXPECT_EQ(without_control_characters("\xe0\x82\x9b"), "\\xe0\\x82\\x9b");
  EXPECT_EQ(without_control_characters("\xed\xa0\x80"), "\\xed\\xa0\\x80");
  EXPECT_EQ(without_control_characters("\xf4\x90\x80\x80"), "\\xf4\\x90\\x80\\x80");
  EXPECT_EQ(without_control_characters("a\xe2\x82"), "a\\xe2\\x82");
}

TEST(WithoutControlCharacters, CutsLongTextsBetweenCharacters) {
  EXPECT_EQ(without_control_characters("abcdef", 4), "abcd...");
  EXPECT_EQ(without_control_characters("ab\xe4\xb8\xad", 4), "ab...");
  EXPECT_EQ(without_control_characters(std::string(10000, 'x')).size(), 4099U);
}

}  // namespace
}  // namespace trireme
