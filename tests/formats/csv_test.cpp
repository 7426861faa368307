#include "trireme/formats/csv.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/formats/deflate.h"
#include "tests/formats/error_of.h"
#include "tests/formats/temporary_folder.h"

namespace trireme {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;

using Rows = std::vector<std::vector<std::string>>;

CsvReader reader(std::string_view text, CsvOptions options = {}) {
  return {bytes_of(text), "t.csv", std::move(options)};
}

Rows rows_of(CsvReader&& csv) {
  Rows rows;
  while (csv.next()) {
    rows.emplace_back();
    for (std::size_t i = 0; i < csv.columns().size(); ++i) rows.back().emplace_back(csv.field(i));
  }
  return rows;
}

std::string error_in(std::string_view text) {
  return error_of<DataError>([&] {
    CsvReader csv = reader(text);
    while (csv.next()) {
      for (std::size_t i = 0; i < csv.columns().size(); ++i) csv.number(i);
    }
  });
}

TEST(Csv, ReadsTheExamplesOfRfc4180) {
  const Rows wanted = {{"aaa", "b\r\nbb", "ccc"}, {"zzz", "y\"yy", ""}};
  const std::string_view text = "h1,h2,h3\r\n\"aaa\",\"b\r\nbb\",\"ccc\"\r\nzzz,\"y\"\"yy\",\r\n";
  EXPECT_THAT(reader(text).columns(), ElementsAre("h1", "h2", "h3"));
  EXPECT_EQ(rows_of(reader(text)), wanted);
}

TEST(Csv, TakesEitherLineBreakAndNoneAtTheEnd) {
  const Rows wanted = {{"1", "2"}, {"3", "4"}};
  for (const char* text : {"a,b\n1,2\n3,4\n", "a,b\r\n1,2\r\n3,4\r\n", "a,b\n1,2\n3,4",
                           "\xEF\xBB\xBF"
                           "a,b\n\n1,2\r\n\r\n3,4\n\n",
                           "a;b\n1;2\n3;4", "a\tb\n1\t2\n3\t4"}) {
    EXPECT_EQ(rows_of(reader(text)), wanted) << text;
    EXPECT_THAT(reader(text).columns(), ElementsAre("a", "b"));
  }
}

TEST(Csv, TakesTheDelimiterThatItIsGiven) {
  EXPECT_THAT(reader("a,b|c\n1,2|3\n", {.delimiter = '|'}).columns(), ElementsAre("a,b", "c"));
  EXPECT_EQ(reader("a\n1\n").delimiter(), ',');
}

// What numbers are written with may also be the delimiter if they are quoted.
TEST(Csv, TakesADelimiterThatNumbersAreWrittenWithIfThereIsNoOther) {
  CsvReader groups = reader("a,b\n\"1,500\",2\n", {.numbers = {.thousands = ','}});
  ASSERT_TRUE(groups.next());
  EXPECT_EQ(groups.number(0), 1500);
  EXPECT_EQ(groups.number(1), 2);
  CsvReader decimals = reader("a,b\n\"1,5\",\"2,25\"\n", {.numbers = {.decimal = ','}});
  ASSERT_TRUE(decimals.next());
  EXPECT_EQ(decimals.number(1), 2.25);
  CsvReader apart = reader("a, b;c\n1,5;2\n", {.numbers = {.decimal = ','}});
  EXPECT_EQ(apart.delimiter(), ';');
}

TEST(Csv, ReadsWithoutAHeader) {
  EXPECT_THAT(reader("1,2\n3,4\n", {.header = false}).columns(), ElementsAre("1", "2"));
  EXPECT_EQ(rows_of(reader("1,2\n3,4\n", {.header = false})), (Rows{{"1", "2"}, {"3", "4"}}));
  EXPECT_EQ(reader("1,2\n3,4\n", {.header = false}).skip(100), 2);
}

TEST(Csv, ReadsNumbersAndMissingValues) {
  CsvReader csv = reader("a,b,c,d,e\n 1.5,-2e3,+7,,NA\n");
  ASSERT_TRUE(csv.next());
  EXPECT_EQ(csv.number(0), 1.5);
  EXPECT_EQ(csv.number(1), -2000.0);
  EXPECT_EQ(csv.number(2), 7.0);
  EXPECT_EQ(csv.number(3), std::nullopt);
  EXPECT_EQ(csv.number(4), std::nullopt);
  EXPECT_TRUE(csv.missing(4));
}

TEST(Csv, NamesLineAndColumnOfAWrongNumber) {
  EXPECT_EQ(error_in("age,income\n31,4\n32,fast\n"),
            "t.csv:3:4: column \"income\" must be a number, got \"fast\"");
  EXPECT_THAT(error_in("a\n1x\n"), StartsWith("t.csv:2:1: "));
  EXPECT_THAT(error_in("a\ninf\n"), HasSubstr("must be a number"));
  EXPECT_THAT(error_in("a\n1e999\n"), HasSubstr("that a double can hold"));
  EXPECT_THAT(error_in("a\n+-1\n"), HasSubstr("must be a number"));
}

TEST(Csv, CountsTheLinesInsideQuotes) {
  EXPECT_THAT(error_in("a,b\n1,\"\n\n\"\n2,x\n"), StartsWith("t.csv:2:3: "));
  EXPECT_THAT(error_in("a,b\n1,\"2\"\n\n\n2,x\n"), StartsWith("t.csv:5:3: "));
  EXPECT_THAT(error_of<DataError>([] {
                CsvReader csv = reader("a,b,c\n1,\"\"\"\n\",x\n");
                csv.next();
                csv.number(2);
              }),
              StartsWith("t.csv:3:3: "));
}

TEST(Csv, NamesLineAndColumnOfAShortAndALongRow) {
  EXPECT_EQ(error_in("a,b,c\n1,2,3\n1,2\n"), "t.csv:3:4: a row must have 3 fields, got 2");
  EXPECT_EQ(error_in("a,b\n1,2,3\n"), "t.csv:2:5: a row must have 2 fields, got 3");
}

TEST(Csv, NamesAQuoteOutOfPlace) {
  EXPECT_THAT(error_in("a,b\n1,2\"\n"), StartsWith("t.csv:2:4: a quote must stand"));
  EXPECT_THAT(error_in("a,b\n\"1\"2,3\n"), StartsWith("t.csv:2:4: after a closing quote"));
  EXPECT_THAT(error_in("a,b\n1,\"2\n3\n"), StartsWith("t.csv:2:3: a quote that is never closed"));
}

TEST(Csv, RefusesAnEmptyFile) {
  EXPECT_EQ(error_in(""), "t.csv:1:1: must have rows, is empty");
  EXPECT_EQ(error_in("\n\r\n\n"), "t.csv:1:1: must have rows, is empty");
}

TEST(Csv, RefusesARowThatDoesNotEnd) {
  const std::string text = "a\n\"" + std::string(40 << 20, 'x');
  EXPECT_THAT(error_in(text), StartsWith("t.csv:2:1: a row must end within 16 MiB"));
}

TEST(Csv, NamesTheColumnsThatThereAre) {
  EXPECT_EQ(error_of<DataError>([] { reader("a,b\n").column("c"); }),
            "t.csv:1: must have a column \"c\", has \"a\", \"b\"");
  EXPECT_THAT(error_of<DataError>([] { reader("a,a\n").column("a"); }), HasSubstr("more than one"));
}

TEST(Csv, SkipsToTheSameRowsThatReadingGives) {
  std::string text = "x,s\n";
  for (int i = 0; i < 100; ++i) {
    text += std::to_string(i) + (i % 3 == 0 ? ",\"a\n\"\"b\"\r\n" : i % 7 == 0 ? ",\n\n" : ",c\n");
  }
  const Rows all = rows_of(reader(text));
  ASSERT_EQ(all.size(), 100u);
  for (int begin = 0; begin <= 100; ++begin) {
    CsvReader csv = reader(text);
    EXPECT_EQ(csv.skip(begin), begin);
    EXPECT_EQ(rows_of(std::move(csv)), Rows(all.begin() + begin, all.end()));
  }
}

TEST(Csv, CountsTheRowsOfAFileWithAndWithoutGzip) {
  const TemporaryFolder folder;
  std::string text = "x,y\n";
  for (int i = 0; i < 70'000; ++i) text += std::to_string(i) + ",\"line\nbreak\"\n";
  EXPECT_EQ(count_csv_rows(folder.write("a.csv", text)), 70'000);
  const auto packed = folder.write("a.csv.gz", gzipped(text));
  EXPECT_EQ(count_csv_rows(packed), 70'000);
  CsvReader csv(packed);
  for (int i = 0; i < 70'000; ++i) {
    ASSERT_TRUE(csv.next());
    ASSERT_EQ(csv.number(0), i);
  }
  EXPECT_FALSE(csv.next());
}

}  // namespace
}  // namespace trireme
