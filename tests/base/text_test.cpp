#include "trireme/base/text.h"

#include <gtest/gtest.h>
#include <stdio.h>

#include <string>

namespace trireme {
namespace {

// What /bin/sh makes of the word.
std::string read_by_shell(const std::string& word) {
  FILE* const pipe = ::popen(("printf %s " + shell_quoted(word)).c_str(), "r");
  std::string text;
  for (int c = 0; (c = ::fgetc(pipe)) != EOF;) text += static_cast<char>(c);
  ::pclose(pipe);
  return text;
}

TEST(ShellQuoted, IsReadBackByAShell) {
  for (const std::string word : {"out", "runs/a-1.b", "with blank", "it's", "\"", "$HOME", "a\nb",
                                 "*", "~", "a;b", "`ls`", "\\", "'", "''", "!", "#x", "[groups]={}",
                                 "\xfc"
                                 "ber"}) {
    EXPECT_EQ(read_by_shell(word), word);
  }
  EXPECT_EQ(shell_quoted(""), "''");
  EXPECT_EQ(shell_quoted("optimizer.lr=0.1"), "optimizer.lr=0.1");
}

TEST(Counted, HasAPluralUnlessThereIsOne) {
  EXPECT_EQ(counted(0, "step"), "0 steps");
  EXPECT_EQ(counted(1, "step"), "1 step");
  EXPECT_EQ(counted(2, "virtual worker"), "2 virtual workers");
  EXPECT_EQ(counted(1, "pass"), "1 pass");
  EXPECT_EQ(counted(3, "pass"), "3 passes");
}

}  // namespace
}  // namespace trireme
