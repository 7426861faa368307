#include "trireme/data/csv_dataset.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/formats/error_of.h"
#include "tests/formats/temporary_folder.h"
#include "trireme/base/error.h"

namespace trireme {
namespace {

using testing::ElementsAre;
using testing::EndsWith;
using testing::HasSubstr;

constexpr std::string_view kHouses =
    "street,rooms,area,price\n"
    "Elm,3,70.5,100\n"
    "\"Oak, old\",4,90,150\n"
    "Ash,2,NA,80\n"
    "Fir,5,110,200\n";

class CsvDatasets : public testing::Test {
 protected:
  CsvDatasetOptions options(std::string_view text, std::string target) const {
    CsvDatasetOptions o;
    o.path = folder_.write("t.csv", text);
    o.target = std::move(target);
    return o;
  }

  std::string error_in(const CsvDatasetOptions& o) const {
    return error_of<DataError>([&] { CsvDataset dataset(o); });
  }

 private:
  TemporaryFolder folder_;
};

TEST_F(CsvDatasets, TakesTheNumericColumnsBesideTheTarget) {
  CsvDatasetOptions o = options(kHouses, "price");
  o.missing = MissingValues::kDrop;
  const CsvDataset houses(o);
  EXPECT_THAT(houses.features(), ElementsAre("rooms", "area"));
  EXPECT_EQ(houses.size(), 3);
  EXPECT_EQ(count_samples(o), 3);
  EXPECT_TRUE(at::equal(houses.inputs(),
                        at::tensor({3.0f, 70.5f, 4.0f, 90.0f, 5.0f, 110.0f}).reshape({3, 2})));
  EXPECT_TRUE(at::equal(houses.targets(), at::tensor({100.0f, 150.0f, 200.0f}).unsqueeze(1)));
}

TEST_F(CsvDatasets, RefusesAColumnOfNumbersAndText) {
  for (const char* odd : {"inf", "n/k"}) {
    const CsvDatasetOptions o = options(std::string("a,b,y\n1,2,3\n4,") + odd + ",6\n", "y");
    EXPECT_THAT([&] { CsvDataset dataset(o); },
                ThrowsMessage<DataError>(HasSubstr(":3:3: must be numbers or text throughout")));
  }
}

TEST_F(CsvDatasets, TakesTheFeaturesThatAreNamedInTheirOrder) {
  CsvDatasetOptions o = options("a,b,c\n1,2,3\n", "b");
  o.features = {"c", "a"};
  o.dtype = DType::kF64;
  EXPECT_TRUE(at::equal(CsvDataset(o).inputs(), at::tensor({3.0, 1.0}, at::kDouble).unsqueeze(0)));
}

TEST_F(CsvDatasets, NamesAMissingValue) {
  const CsvDatasetOptions o = options(kHouses, "price");
  EXPECT_THAT(error_in(o), HasSubstr("t.csv:4:7: column \"area\" must have a value"));
}

TEST_F(CsvDatasets, FillsWithTheMeanOfTheWholeFileWhateverRowsAreHeld) {
  CsvDatasetOptions o = options(kHouses, "price");
  o.missing = MissingValues::kMean;
  o.rows = Range{2, 4};
  const CsvDataset part(o);
  EXPECT_EQ(part.size(), 4);
  EXPECT_FLOAT_EQ(part.inputs()[0][1].item<float>(), (70.5f + 90 + 110) / 3);
}

TEST_F(CsvDatasets, SortsLabelsAsNumbersOrAsText) {
  CsvDatasetOptions o = options("x,y\n1,10\n2,9\n3,10\n", "y");
  o.classify = true;
  const CsvDataset numbers(o);
  EXPECT_THAT(numbers.classes(), ElementsAre("9", "10"));
  EXPECT_TRUE(at::equal(numbers.targets(), at::tensor({1, 0, 1}, at::kLong)));
  EXPECT_EQ(numbers.target(), Target::one_of(2));

  o = options("x,y\n1,pear\n2,apple\n3,10\n", "y");
  o.classify = true;
  EXPECT_THAT(CsvDataset(o).classes(), ElementsAre("10", "apple", "pear"));
}

TEST_F(CsvDatasets, TakesTheClassesOfATrainingSet) {
  CsvDatasetOptions o = options("x,y\n1,b\n2,a\n", "y");
  o.classify = true;
  o.classes = {"c", "b", "a"};
  EXPECT_TRUE(at::equal(CsvDataset(o).targets(), at::tensor({1, 2}, at::kLong)));
  o.classes = {"b", "c"};
  EXPECT_THAT(error_in(o),
              EndsWith("t.csv:3:3: the label must be one of the 2 classes, got \"a\""));
}

// What a rank holds must be the rows that reading everything gives, in each of the modes: those
// that skip rows unseen and those that look at each.
TEST_F(CsvDatasets, HoldsARangeUnderTheIndicesOfTheWhole) {
  std::string text = "x,y\n";
  for (int i = 0; i < 50; ++i) {
    text += (i % 7 == 3 ? "NA" : std::to_string(i)) + "," + std::to_string(i % 3) + "\n";
  }
  for (const bool classify : {false, true}) {
    for (const auto missing : {MissingValues::kDrop, MissingValues::kMean}) {
      CsvDatasetOptions o = options(text, "y");
      o.classify = classify;
      o.missing = missing;
      const CsvDataset whole(o);
      EXPECT_EQ(count_samples(o), whole.size());
      o.rows = Range{13, 29};
      const CsvDataset part(o);
      EXPECT_EQ(part.size(), whole.size());
      EXPECT_TRUE(at::equal(part.inputs(), whole.inputs().slice(0, 13, 29)));
      EXPECT_TRUE(at::equal(part.targets(), whole.targets().slice(0, 13, 29)));
      EXPECT_EQ(part.classes(), whole.classes());
    }
  }
}

TEST_F(CsvDatasets, DoesNotLookIntoRowsThatItDoesNotHold) {
  CsvDatasetOptions o = options("x,y\n1,2\n3,4\n5,6\n7,broken\n", "y");
  o.rows = Range{1, 3};
  const CsvDataset part(o);
  EXPECT_EQ(part.size(), 4);
  EXPECT_TRUE(at::equal(part.inputs().flatten(), at::tensor({3.0f, 5.0f})));
  o.rows = Range{1, 6};
  EXPECT_THROW(CsvDataset{o}, DataError);
}

TEST_F(CsvDatasets, SaysWhatIsWrongWithTheFile) {
  EXPECT_THAT(error_in(options("x,y\n", "y")), HasSubstr("must have"));
  EXPECT_THAT(error_in(options("x,y\n1,2\n", "z")), HasSubstr("must have a column \"z\""));
  EXPECT_THAT(error_in(options("x,y\na,2\n", "y")), HasSubstr("a column of numbers beside \"y\""));
  EXPECT_THAT(error_in(options("x,y\n1,2\n3\n", "y")), HasSubstr("t.csv:3:2: a row must have 2"));
  EXPECT_THAT(error_in(options("x,y\n1,\n", "y")), HasSubstr("t.csv:2:3: column \"y\""));
  CsvDatasetOptions named = options("x,y\n", "y");
  named.features = {"x"};
  EXPECT_THAT(error_in(named), HasSubstr("must have rows, has none below its header"));
}

TEST_F(CsvDatasets, RefusesOptionsThatContradictEachOther) {
  CsvDatasetOptions o = options("x,y\n1,2\n", "y");
  o.features = {"y"};
  EXPECT_THROW(CsvDataset{o}, UsageError);
  o.features = {};
  o.classes = {"a"};
  EXPECT_THROW(CsvDataset{o}, UsageError);
  EXPECT_THROW(missing_values_of("ignore"), UsageError);
}

}  // namespace
}  // namespace trireme
