#include "trireme/base/partition.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <limits>

#include "trireme/base/random.h"

namespace trireme {
namespace {

double load(std::span<const std::int64_t> sizes, std::span<const double> weights) {
  double most = 0;
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    most = std::max(most, static_cast<double>(sizes[i]) / weights[i]);
  }
  return most;
}

// The oracle: every way to cut `count` items into pieces of one or more.
double smallest_load(std::int64_t count, std::span<const double> weights) {
  double smallest = std::numeric_limits<double>::infinity();
  std::vector<std::int64_t> sizes;
  const std::function<void(std::int64_t)> cut = [&](std::int64_t left) {
    const std::size_t parts_left = weights.size() - sizes.size();
    if (parts_left == 1) {
      sizes.push_back(left);
      smallest = std::min(smallest, load(sizes, weights));
      return sizes.pop_back();
    }
    for (std::int64_t size = 1; size <= left - static_cast<std::int64_t>(parts_left) + 1; ++size) {
      sizes.push_back(size);
      cut(left - size);
      sizes.pop_back();
    }
  };
  cut(count);
  return smallest;
}

TEST(PartitionInProportion, NoOtherCutIsDoneEarlier) {
  const CounterRandom random(7);
  std::uint64_t draw = 0;
  for (std::size_t parts = 1; parts <= 4; ++parts) {
    for (std::int64_t count = static_cast<std::int64_t>(parts); count <= 14; ++count) {
      std::vector<double> weights(parts);
      for (double& weight : weights) weight = 0.05 + random.uniform(draw++);
      const std::vector<Range> ranges = partition_in_proportion(count, weights);
      std::vector<std::int64_t> sizes;
      std::int64_t next = 0;
      for (const Range& range : ranges) {
        EXPECT_EQ(range.begin, next);
        EXPECT_GE(range.size(), 1);
        sizes.push_back(range.size());
        next = range.end;
      }
      EXPECT_EQ(next, count);
      ASSERT_EQ(sizes.size(), parts);
      EXPECT_DOUBLE_EQ(load(sizes, weights), smallest_load(count, weights));
    }
  }
}

TEST(PartitionInProportion, OfEqualWeightsIsPartition) {
  for (std::int64_t parts = 1; parts <= 5; ++parts) {
    const std::vector<double> weights(static_cast<std::size_t>(parts), 0.3);
    for (std::int64_t count = parts; count <= 20; ++count) {
      const std::vector<Range> ranges = partition_in_proportion(count, weights);
      for (std::int64_t part = 0; part < parts; ++part) {
        EXPECT_EQ(ranges[static_cast<std::size_t>(part)], partition(count, parts, part));
      }
    }
  }
}

// Sizes as weights give these sizes: how a group of ranks keeps what each has.
TEST(PartitionInProportion, OfSizesGivesTheSizes) {
  const std::vector<double> sizes = {5, 1, 1, 7, 3};
  std::vector<std::int64_t> got;
  for (const Range& range : partition_in_proportion(17, sizes)) got.push_back(range.size());
  EXPECT_THAT(got, testing::ElementsAre(5, 1, 1, 7, 3));
}

}  // namespace
}  // namespace trireme
