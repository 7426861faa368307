// A value of a configuration is changed in its place; every other byte stays.

#include "trireme/config/set_value.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "trireme/base/error.h"

namespace trireme {
namespace {

using testing::HasSubstr;
using testing::ThrowsMessage;

std::string with_lr(const std::string& text) {
  return with_value(text, "optimizer.lr", "3e-05", "run.toml");
}

TEST(WithValue, ReplacesTheValueAndNothingElse) {
  const std::string before = "# sgd\n[optimizer]\n  lr\t=  ";
  const std::string after = "  # tuned by hand\nname = \"sgd\"\n\n[model]\nname = \"mlp\"";
  for (const char* value :
       {"0.01", "1", "1_000.5", "-1e-3", "+inf", "0xff", "\"fast\"", "[1, 2]"}) {
    EXPECT_EQ(with_lr(before + value + after), before + "3e-05" + after) << value;
  }
}

TEST(WithValue, KeepsTheFormOfTheFile) {
  EXPECT_EQ(with_lr("optimizer.lr = 1"), "optimizer.lr = 3e-05");
  EXPECT_EQ(with_lr("optimizer = { name = \"é\", lr=0.5, eps=1 }\r\n"),
            "optimizer = { name = \"é\", lr=3e-05, eps=1 }\r\n");
  EXPECT_EQ(with_lr("\xEF\xBB\xBF[optimizer]\nlr=1\n"), "\xEF\xBB\xBF[optimizer]\nlr=3e-05\n");
}

TEST(WithValue, AddsAKeyToItsSection) {
  EXPECT_EQ(with_lr("[optimizer] # of mine\nname = \"sgd\"\n[run]\n"),
            "[optimizer] # of mine\nlr = 3e-05\nname = \"sgd\"\n[run]\n");
  EXPECT_EQ(with_lr("[ optimizer ]\r\nname = \"sgd\"\r\n"),
            "[ optimizer ]\r\nlr = 3e-05\r\nname = \"sgd\"\r\n");
  EXPECT_EQ(with_lr("[optimizer]"), "[optimizer]\nlr = 3e-05\n");
}

TEST(WithValue, AddsASectionAtTheEnd) {
  EXPECT_EQ(with_lr(""), "[optimizer]\nlr = 3e-05\n");
  EXPECT_EQ(with_lr("[run]\ndirectory = \"a\""),
            "[run]\ndirectory = \"a\"\n\n[optimizer]\nlr = 3e-05\n");
  EXPECT_EQ(with_lr("[[optimizer.groups]]\nlr_factor = 2\n"),
            "[[optimizer.groups]]\nlr_factor = 2\n\n[optimizer]\nlr = 3e-05\n");
}

TEST(WithValue, RefusesWhatIsToBeWrittenByHand) {
  for (const char* text : {"optimizer.name = \"sgd\"\n", "optimizer = {}\n", "optimizer = 3\n",
                           "x = '''\n[optimizer]\n'''\n"}) {
    EXPECT_THAT([&] { with_lr(text); },
                ThrowsMessage<UsageError>(HasSubstr("run.toml: optimizer.lr = 3e-05 cannot be")))
        << text;
  }
  EXPECT_THAT([] { with_lr("[optimizer"); }, ThrowsMessage<UsageError>(HasSubstr("run.toml:1:")));
}

}  // namespace
}  // namespace trireme
