#include "trireme/base/region.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "tests/base/random_region.h"
#include "tests/formats/error_of.h"
#include "trireme/base/error.h"

namespace trireme {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

RC_GTEST_PROP(Region, CountsWhatItHolds, ()) {
  const test::MarkedRegion marked = test::random_region(test::random_shape());
  RC_ASSERT(marked.region.count() == std::ssize(marked.elements));
  RC_ASSERT(elements_of(marked.region.local_shape()) == marked.region.count());
}

TEST(Region, OfColumnsHasTheirShape) {
  const Region columns({4, 6}, {{.dim = 1, .kept = {{0, 2}, {4, 5}}}});
  EXPECT_THAT(columns.local_shape(), ElementsAre(4, 3));
  EXPECT_EQ(columns.count(), 12);
  EXPECT_FALSE(columns.is_whole());
  EXPECT_THAT(columns.slice({2, 9}).local_shape(), ElementsAre(7));
  EXPECT_THAT(columns.slice({2, 9}).cut_shape(), ElementsAre(4, 3));
}

TEST(Region, OfAScalarIsOneElement) {
  EXPECT_EQ(Region().count(), 1);
  EXPECT_TRUE(Region().is_whole());
  EXPECT_THAT(Region().local_shape(), ElementsAre());
}

TEST(Region, DoesNotDependOnHowItsCutsAreWritten) {
  const Region one({4, 6}, {{0, {{0, 2}}}, {1, {{0, 3}}}});
  const Region other({4, 6}, {{1, {{0, 1}, {1, 1}, {1, 3}}}, {0, {{0, 2}}}});
  EXPECT_EQ(one, other);
  EXPECT_EQ(Region({4, 6}, {{0, {{0, 1}, {1, 4}}}}), Region({4, 6}));
  EXPECT_EQ(Region({4, 6}).slice({0, 24}), Region({4, 6}));
}

TEST(Region, IsWrittenLikeAnIndex) {
  EXPECT_EQ(to_string(Region({4, 6})), "");
  EXPECT_EQ(to_string(Region({4, 6}).slice({3, 7})), "[3:7]");
  const Region columns({4, 12}, {{1, {{0, 2}, {4, 6}, {8, 10}}}});
  EXPECT_EQ(to_string(columns), "[:, 0:2+4:6+8:10]");
  EXPECT_EQ(to_string(columns.slice({0, 9})), "[:, 0:2+4:6+8:10][0:9]");
}

TEST(Region, IsSlicedAtBlocks) {
  const Region region({3, 4096}, {{0, {{0, 2}}}});
  EXPECT_EQ(region.block_slice(3, 0).range(), (Range{0, 4096}));
  EXPECT_EQ(region.block_slice(3, 1).range(), (Range{4096, 8192}));
  EXPECT_EQ(region.block_slice(3, 2).count(), 0);
  EXPECT_EQ(Region({5000}).block_slice(2, 1).range(), (Range{4096, 5000}));
}

TEST(Region, RefusesWhatIsNoRegion) {
  const auto refusal = [](TensorShape shape, std::vector<Cut> cuts) {
    return error_of<UsageError>([&] { Region(std::move(shape), std::move(cuts)); });
  };
  EXPECT_THAT(refusal({-1}, {}), HasSubstr("[-1] is not the shape of a tensor"));
  EXPECT_THAT(refusal({INT64_MAX, 2}, {}), HasSubstr("is not the shape of a tensor"));
  EXPECT_THAT(refusal({0, INT64_MAX, 2}, {}), HasSubstr("is not the shape of a tensor"));
  EXPECT_THAT(refusal({4, 6}, {{2, {{0, 1}}}}), HasSubstr("one of the 2 of [4, 6], got 2"));
  EXPECT_THAT(refusal({4, 6}, {{-1, {{0, 1}}}}), HasSubstr("got -1"));
  EXPECT_THAT(refusal({4, 6}, {{0, {{0, 1}}}, {0, {{1, 2}}}}),
              HasSubstr("0 of [4, 6] is cut twice"));
  EXPECT_THAT(refusal({4, 6}, {{1, {{0, 7}}}}), HasSubstr("within [0, 6); got [0, 7)"));
  EXPECT_THAT(refusal({4, 6}, {{1, {{-1, 2}}}}), HasSubstr("got [-1, 2)"));
  EXPECT_THAT(refusal({4, 6}, {{1, {{3, 2}}}}), HasSubstr("got [3, 2)"));
  EXPECT_THAT(refusal({4, 6}, {{1, {{2, 4}, {3, 5}}}}),
              HasSubstr("got [3, 5) where 4 indices are passed already"));
  EXPECT_THAT(error_of<UsageError>([] {
                Region({4, 6}).slice({20, 25});
              }),
              HasSubstr("must lie in the 24 elements of 4x6, got [20, 25)"));
  EXPECT_THROW(Region({4, 6}).slice({-1, 2}), UsageError);
  EXPECT_THROW(Region({4, 6}).slice({3, 2}), UsageError);
}

}  // namespace
}  // namespace trireme
