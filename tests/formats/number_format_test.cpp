#include "trireme/formats/number_format.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

namespace trireme {
namespace {

using testing::HasSubstr;
using testing::Optional;

constexpr NumberFormat kGerman{',', '.'};
constexpr NumberFormat kFrench{',', ' '};
constexpr NumberFormat kAmerican{'.', ','};

TEST(NumberFormats, ReadPlainNumbers) {
  EXPECT_THAT(number_of("1.5"), Optional(1.5));
  EXPECT_THAT(number_of("+2"), Optional(2.0));
  EXPECT_THAT(number_of("-1e-3"), Optional(-0.001));
  for (const char* text : {"", "1,5", "inf", "nan", "0x10", "+-1", "1.5kg", "1 000", "--1"}) {
    EXPECT_EQ(number_of(text), std::nullopt) << text;
  }
}

TEST(NumberFormats, ReadGroupsAndDecimalCommas) {
  EXPECT_THAT(number_of("1.234.567,5", kGerman), Optional(1234567.5));
  EXPECT_THAT(number_of("-1,25", kGerman), Optional(-1.25));
  EXPECT_THAT(number_of("+12 345", kFrench), Optional(12345.0));
  EXPECT_THAT(number_of("1,234.5e2", kAmerican), Optional(123450.0));
  EXPECT_THAT(number_of("0,5", {',', 0}), Optional(0.5));
  EXPECT_THAT(number_of("1234,5", kGerman), Optional(1234.5));
}

TEST(NumberFormats, RefuseGroupsOfAnotherLength) {
  for (const char* text : {"1.23", "12.34,5", "1234.567", ".123", "1..234", "1.234.", "1,5,5"}) {
    EXPECT_EQ(number_of(text, kGerman), std::nullopt) << text;
  }
}

TEST(NumberFormats, SayThatADoubleCannotHoldANumber) {
  EXPECT_TRUE(std::isinf(number_of("1e999").value()));
  EXPECT_FALSE(is_number("1e999"));
}

TEST(NumberFormats, AdviseHowAnotherSpellingIsRead) {
  EXPECT_THAT(advice_on_number("1,5", {}), Optional(HasSubstr("data.decimal = \",\" ")));
  EXPECT_THAT(advice_on_number("1,500", {}), Optional(HasSubstr("set data.thousands = \",\" ")));
  EXPECT_THAT(advice_on_number("1.234,5", {}),
              Optional(HasSubstr("data.decimal = \",\" and data.thousands = \".\"")));
  EXPECT_THAT(advice_on_number("12 345", {}), Optional(HasSubstr("data.thousands = \" \"")));
  EXPECT_THAT(advice_on_number("1'000", {}), Optional(HasSubstr("data.thousands = \"'\"")));
  EXPECT_THAT(advice_on_number("1.5", {',', 0}), Optional(HasSubstr("data.decimal = \".\"")));
  EXPECT_THAT(advice_on_number("$5", {}), Optional(HasSubstr("write it as \"5\"")));
  EXPECT_THAT(advice_on_number("12.5 %", {}), Optional(HasSubstr("write it as \"12.5\"")));
  EXPECT_THAT(advice_on_number("(3)", {}), Optional(HasSubstr("write it as \"-3\"")));
  EXPECT_THAT(advice_on_number("\u22124", {}), Optional(HasSubstr("write it as \"-4\"")));
  for (const char* text : {"Elm", "n/k", "", "-", "1-2", "2020-01-01", "inf", "3 rooms"}) {
    EXPECT_EQ(advice_on_number(text, {}), std::nullopt) << text;
  }
}

}  // namespace
}  // namespace trireme
