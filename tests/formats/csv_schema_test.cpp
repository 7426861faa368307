#include "trireme/formats/csv_schema.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/formats/error_of.h"
#include "tests/formats/temporary_folder.h"

namespace trireme {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

class CsvSchemas : public testing::Test {
 protected:
  CsvSchema schema_of(std::string_view text, const CsvSelection& selection,
                      const CsvOptions& options = {}) const {
    return csv_schema(folder_.write("t.csv", text), options, selection);
  }

  static std::vector<std::string> names_of(const CsvSchema& schema) {
    std::vector<std::string> names;
    for (const CsvFeature& feature : schema.features) names.push_back(feature.name());
    return names;
  }

  std::string error_in(std::string_view text, const CsvSelection& selection,
                       const CsvOptions& options = {}) const {
    return error_of<DataError>([&] { schema_of(text, selection, options); });
  }

  std::string misuse(const CsvSelection& selection) const {
    return error_of<UsageError>([&] { schema_of("a,b,y\n1,2,3\n", selection); });
  }

 private:
  TemporaryFolder folder_;
};

TEST_F(CsvSchemas, SayWhyAColumnIsNotUsed) {
  const CsvSchema schema = schema_of("street,id,rooms,empty,y\n,1,3,,10\nElm,2,4,NA,20\n",
                                     {.target = "y", .ignored = {"id"}});
  EXPECT_THAT(names_of(schema), ElementsAre("rooms"));
  EXPECT_THAT(schema.unused, ElementsAre(UnusedCsvColumn{"street", "is text, \"Elm\" in line 3"},
                                         UnusedCsvColumn{"id", "in data.ignore"},
                                         UnusedCsvColumn{"empty", "has no values"}));
  EXPECT_EQ(schema.rows, 2);
}

// Column a has its first value after 150 rows.
TEST_F(CsvSchemas, LookAtAllRowsToFindAColumnsType) {
  std::string text = "a,b,y\n";
  for (int i = 0; i < 200; ++i) text += i < 150 ? ",1,2\n" : "7,1,2\n";
  const CsvSchema schema = schema_of(text, {.target = "y", .missing = MissingValues::kDrop});
  EXPECT_THAT(names_of(schema), ElementsAre("a", "b"));
  EXPECT_EQ(schema.rows, 50);
  EXPECT_EQ(schema.dropped_rows, 150);
}

TEST_F(CsvSchemas, FindAMixtureOfNumbersAndTextInTheLastRow) {
  std::string text = "a,y\n";
  for (int i = 0; i < 200; ++i) text += "1,2\n";
  EXPECT_THAT(
      error_in(text + "n/k,2\n", {.target = "y"}),
      HasSubstr(":202:1: column \"a\" must be numbers or text throughout, got \"n/k\" after "
                "numbers; name what stands for a missing value in data.na_values"));
  EXPECT_THAT(error_in("a,y\nx,1\n,1\n5,1\n", {.target = "y"}),
              HasSubstr(":4:1: column \"a\" must be numbers or text throughout, got \"5\" after "
                        "\"x\" in line 2"));
}

TEST_F(CsvSchemas, TakeWhatStandsForAMissingValue) {
  const CsvSchema schema = schema_of("a,y\n1,2\nn/k,2\n", {.target = "y"}, {.missing = {"n/k"}});
  EXPECT_THAT(names_of(schema), ElementsAre("a"));
  EXPECT_THAT(error_in("a,y\n1,2\nNA,2\n", {.target = "y"}, {.missing = {"n/k"}}),
              HasSubstr("got \"NA\" after numbers"));
}

TEST_F(CsvSchemas, RefuseNumbersInAnotherSpellingWithTheKeyThatReadsThem) {
  EXPECT_THAT(error_in("a;b;y\n1,5;1;2\n2,25;2;3\n", {.target = "y"}),
              HasSubstr(":2:1: column \"a\" looks like numbers in another spelling, got \"1,5\"; "
                        "set data.decimal = \",\" to read it"));
  EXPECT_THAT(error_in("a,b,y\n1,1,2\n2 %,2,3\n", {.target = "y"}),
              HasSubstr(":3:1: column \"a\" must be numbers or text throughout, got \"2 %\" after "
                        "numbers; write it as \"2\" in the file"));
  const CsvSchema read =
      schema_of("a;b;y\n1,5;1;2\n2,25;2;3\n", {.target = "y"}, {.numbers = {',', 0}});
  EXPECT_THAT(names_of(read), ElementsAre("a", "b"));
}

TEST_F(CsvSchemas, TextOfWhichSomeLooksLikeNumbersIsText) {
  const CsvSchema schema = schema_of("a,b,y\n12 345,1,2\nElm,2,3\n", {.target = "y"});
  EXPECT_THAT(names_of(schema), ElementsAre("b"));
}

TEST_F(CsvSchemas, MakeAnInputOfEachCategory) {
  const CsvSchema schema = schema_of("size,color,y\n3, red,1\n10,blue,2\n3,red ,3\n,green,4\n",
                                     {.target = "y", .categorical = {"*"}});
  EXPECT_THAT(names_of(schema),
              ElementsAre("size=3", "size=10", "color=blue", "color=green", "color=red"));
  EXPECT_THAT(schema.columns(), ElementsAre("size", "color"));
  EXPECT_THAT(schema.unused, IsEmpty());
}

TEST_F(CsvSchemas, TakePatternsAfterNames) {
  const std::string text = "p1,p2,q1,q*,name,y\n1,2,3,4,Elm,5\n";
  EXPECT_THAT(names_of(schema_of(text, {.target = "y", .features = {"q*", "p?"}})),
              ElementsAre("q*", "p1", "p2"));
  const CsvSchema some =
      schema_of(text, {.target = "y", .features = {"q1", "*"}, .ignored = {"p*"}});
  EXPECT_THAT(names_of(some), ElementsAre("q1", "q*"));
  EXPECT_THAT(some.unused, ElementsAre(UnusedCsvColumn{"p1", "in data.ignore"},
                                       UnusedCsvColumn{"p2", "in data.ignore"},
                                       UnusedCsvColumn{"name", "is text, \"Elm\" in line 2"}));
}

TEST_F(CsvSchemas, RefuseSelectionsThatContradictThemselves) {
  EXPECT_THAT(misuse({.target = "y", .features = {"a"}, .ignored = {"a"}}),
              HasSubstr("\"a\" must be either in data.features or in data.ignore"));
  EXPECT_THAT(misuse({.target = "y", .features = {"y"}}),
              HasSubstr("data.features must not have the target \"y\""));
  EXPECT_THAT(misuse({.target = "y", .categorical = {"c*"}}),
              HasSubstr("\"c*\" in data.categorical must match a column, matches none"));
  EXPECT_THAT(error_in("a,y\n1,2\n", {.target = "y", .ignored = {"c"}}),
              HasSubstr("must have a column \"c\", has \"a\", \"y\""));
  EXPECT_THAT(error_in("a,a,y\n1,2,3\n", {.target = "y"}), HasSubstr("one column \"a\""));
}

TEST_F(CsvSchemas, LabelsAreLabels) {
  const CsvSchema schema =
      schema_of("x,y\n1,NA\n2, None\n3,b\nNA,only dropped\n4,\n",
                {.target = "y", .classify = true, .missing = MissingValues::kDrop});
  EXPECT_THAT(schema.classes, ElementsAre("NA", "None", "b"));
  EXPECT_EQ(schema.rows, 3);
  EXPECT_EQ(schema.dropped_rows, 2);
  EXPECT_EQ(schema.trimmed_labels, 1);
}

TEST_F(CsvSchemas, LabelsThatAreWholeNumbersAreSortedAsSuch) {
  const CsvSelection selection{.target = "y", .classify = true};
  EXPECT_THAT(schema_of("x,y\n1,10\n2,9\n3,10\n", selection).classes, ElementsAre("9", "10"));
  EXPECT_THAT(schema_of("x,y\n1,b\n2,10\n3,9\n", selection).classes, ElementsAre("10", "9", "b"));
}

TEST_F(CsvSchemas, ManyColumnsTakeTimeInProportion) {
  std::string header, row;
  for (int i = 0; i < 100'000; ++i) {
    header += "c" + std::to_string(i) + ",";
    row += "1,";
  }
  const CsvSchema schema = schema_of(header + "y\n" + row + "2\n", {.target = "y"});
  EXPECT_EQ(schema.features.size(), 100'000U);
}

}  // namespace
}  // namespace trireme
