#include "trireme/data/csv_dataset.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

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
    o.columns.target = std::move(target);
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
  o.columns.missing = MissingValues::kDrop;
  const CsvDataset houses(o);
  EXPECT_THAT(houses.schema().columns(), ElementsAre("rooms", "area"));
  EXPECT_EQ(houses.size(), 3);
  EXPECT_EQ(houses.schema().dropped_rows, 1);
  EXPECT_TRUE(at::equal(houses.inputs(),
                        at::tensor({3.0f, 70.5f, 4.0f, 90.0f, 5.0f, 110.0f}).reshape({3, 2})));
  EXPECT_TRUE(at::equal(houses.targets(), at::tensor({100.0f, 150.0f, 200.0f}).unsqueeze(1)));
}

TEST_F(CsvDatasets, RefusesAColumnOfNumbersAndText) {
  for (const char* odd : {"inf", "n/k"}) {
    const CsvDatasetOptions o = options(std::string("a,b,y\n1,2,3\n4,") + odd + ",6\n", "y");
    EXPECT_THAT([&] { CsvDataset dataset(o); },
                ThrowsMessage<DataError>(
                    HasSubstr(":3:3: column \"b\" must be numbers or text throughout")));
  }
}

TEST_F(CsvDatasets, TakesTheFeaturesThatAreNamedInTheirOrder) {
  CsvDatasetOptions o = options("a,b,c\n1,2,3\n", "b");
  o.columns.features = {"c", "a"};
  o.dtype = DType::kF64;
  EXPECT_TRUE(at::equal(CsvDataset(o).inputs(), at::tensor({3.0, 1.0}, at::kDouble).unsqueeze(0)));
}

TEST_F(CsvDatasets, NamesAMissingValue) {
  const CsvDatasetOptions o = options(kHouses, "price");
  EXPECT_THAT(error_in(o), HasSubstr("t.csv:4:7: column \"area\" must have a value"));
}

TEST_F(CsvDatasets, KeepsAMissingValueAsNaN) {
  CsvDatasetOptions o = options(kHouses, "price");
  o.columns.missing = MissingValues::kKeep;
  o.rows = Range{2, 4};
  const CsvDataset part(o);
  EXPECT_EQ(part.size(), 4);
  EXPECT_TRUE(std::isnan(part.inputs()[0][1].item<float>()));
  EXPECT_EQ(part.inputs()[0][0].item<float>(), 2);
}

TEST_F(CsvDatasets, NumbersLabelsInTheOrderOfTheClasses) {
  CsvDatasetOptions o = options("x,y\n1,10\n2, 9\n3,10\n", "y");
  o.columns.classify = true;
  const CsvDataset numbers(o);
  EXPECT_THAT(numbers.schema().classes, ElementsAre("9", "10"));
  EXPECT_TRUE(at::equal(numbers.targets(), at::tensor({1, 0, 1}, at::kLong)));
  EXPECT_EQ(numbers.target(), Target::one_of(2));
}

TEST_F(CsvDatasets, TakesFeaturesAndClassesOfATrainingFile) {
  CsvDatasetOptions o = options("color,x,y\nred,1,b\nblue,2,a\nred,3,c\n", "y");
  o.columns.classify = true;
  o.columns.categorical = {"color"};
  o.schema = CsvDataset(o).schema();
  o.path = options("y,x,color\nc,5,blue\n", "y").path;
  const CsvDataset test(o);
  EXPECT_TRUE(at::equal(test.inputs(), at::tensor({1.0f, 0.0f, 5.0f}).unsqueeze(0)));
  EXPECT_TRUE(at::equal(test.targets(), at::tensor({2}, at::kLong)));
  o.path = options("y,x,color\nd,5,blue\n", "y").path;
  EXPECT_THAT(
      error_in(o),
      EndsWith(":2:1: the label must be one of the 3 classes of the training data, got \"d\""));
  o.path = options("y,x,color\nc,5,green\n", "y").path;
  EXPECT_THAT(error_in(o), EndsWith(":2:5: column \"color\" must have one of its 2 values in the "
                                    "training file, got \"green\""));
}

TEST_F(CsvDatasets, NarrowsOnlyWhatFits) {
  CsvDatasetOptions o = options("a,y\n1e39,2\n1,1e39\n", "y");
  EXPECT_THAT(error_in(o), HasSubstr(":2:1: column \"a\" must have numbers that fit f32, got "
                                     "\"1e39\"; standardize it, or train in f64"));
  o.dtype = DType::kF64;
  EXPECT_EQ(CsvDataset(o).inputs()[0][0].item<double>(), 1e39);
  o.narrowed_targets = DType::kF32;
  EXPECT_THAT(error_in(o), HasSubstr(":3:3: column \"y\" must have numbers that fit f32"));
}

// What a rank holds must be the rows that reading everything gives, in each of the modes: those
// that skip rows unseen and those that look at each.
TEST_F(CsvDatasets, HoldsARangeUnderTheIndicesOfTheWhole) {
  std::string text = "x,y\n";
  for (int i = 0; i < 50; ++i) {
    text += (i % 7 == 3 ? "NA" : std::to_string(i)) + "," + std::to_string(i % 3) + "\n";
  }
  for (const bool classify : {false, true}) {
    for (const auto missing : {MissingValues::kDrop, MissingValues::kKeep}) {
      CsvDatasetOptions o = options(text, "y");
      o.columns.classify = classify;
      o.columns.missing = missing;
      const CsvDataset whole(o);
      EXPECT_EQ(csv_schema(o.path, o.format, o.columns).rows, whole.size());
      o.rows = Range{13, 29};
      const CsvDataset part(o);
      EXPECT_EQ(part.size(), whole.size());
      EXPECT_TRUE(at::allclose(part.inputs(), whole.inputs().slice(0, 13, 29), 0, 0,
                               /*equal_nan=*/true));
      EXPECT_TRUE(at::equal(part.targets(), whole.targets().slice(0, 13, 29)));
      EXPECT_EQ(part.schema().classes, whole.schema().classes);
    }
  }
}

TEST_F(CsvDatasets, DoesNotLookIntoRowsThatItDoesNotHold) {
  CsvDatasetOptions o = options("x,y\n1,2\n3,4\n5,6\n7,broken\n", "y");
  o.columns.features = {"x"};
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
  named.columns.features = {"x"};
  EXPECT_THAT(error_in(named), HasSubstr("must have rows, has none below its header"));
}

TEST_F(CsvDatasets, RefusesOtherTypes) {
  CsvDatasetOptions o = options("x,y\n1,2\n", "y");
  o.dtype = DType::kI64;
  EXPECT_THROW(CsvDataset{o}, UsageError);
}

}  // namespace
}  // namespace trireme
