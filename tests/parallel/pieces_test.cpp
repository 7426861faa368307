#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <numeric>
#include <vector>

#include "trireme/base/error.h"
#include "trireme/base/random.h"
#include "trireme/parallel/gradient_norm.h"
#include "trireme/parallel/gradients/bucket_pieces.h"
#include "trireme/parallel/sharded/pass_order.h"

namespace trireme {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::ThrowsMessage;

std::vector<BucketLayout::Parameter> parameters(const std::vector<std::int64_t>& counts) {
  std::vector<BucketLayout::Parameter> all;
  for (const std::int64_t count : counts) all.push_back({.count = count});
  return all;
}

// Sizes from 1 to 40,000 in any order, any number of parts: pieces follow one another, begin where
// a block of a parameter begins, and differ from an equal share by at most a block and its padding.
TEST(BucketPieces, CutAtBlocksOfParameters) {
  const CounterRandom random(3, 0);
  for (std::uint64_t round = 0; round < 200; ++round) {
    const int parts = 1 + static_cast<int>(round % 7);
    std::vector<std::int64_t> counts;
    for (std::uint64_t p = 0; p < 1 + round % 5; ++p) {
      counts.push_back(1 + static_cast<std::int64_t>(random.uniform(round * 8 + p) * 40'000));
    }
    const BucketLayout layout(parameters(counts), ReductionTree(parts, parts), 1 << 17);
    const BucketPieces pieces(layout, parts);
    for (std::size_t b = 0; b < layout.buckets().size(); ++b) {
      const BucketLayout::Bucket& bucket = layout.buckets()[b];
      std::int64_t at = 0;
      for (int part = 0; part < parts; ++part) {
        const Range piece = pieces.of(b, part);
        EXPECT_EQ(piece.begin, at);
        EXPECT_EQ(pieces.counts(b)[static_cast<std::size_t>(part)], piece.size());
        at = piece.end;
        EXPECT_NEAR(static_cast<double>(piece.end),
                    static_cast<double>(bucket.count) * (part + 1) / parts, kBlock);
        bool is_cut = piece.end == bucket.count;
        for (const std::size_t p : bucket.parameters) {
          const BucketLayout::Slot& slot = layout.slots()[p];
          const std::int64_t inside = piece.end - slot.offset;
          is_cut |= inside >= 0 && inside < slot.count && inside % kBlock == 0;
        }
        EXPECT_TRUE(is_cut) << piece.end;
      }
      EXPECT_EQ(at, bucket.count);
    }
  }
}

TEST(BucketPieces, OfOwnersAreWholeParameters) {
  const std::vector<std::int64_t> counts = {5000, 16, 9000, 32, 7000};
  const std::vector<int> owners = balanced_owners(counts, 2);
  EXPECT_THAT(owners, ElementsAre(1, 0, 0, 0, 1));  // 9048 and 12000
  std::vector<BucketLayout::Parameter> all = parameters(counts);
  for (std::size_t p = 0; p < all.size(); ++p) all[p].owner = owners[p];
  const BucketLayout layout(all, ReductionTree(2, 2), 1 << 20);
  const BucketPieces pieces(layout, 2, owners);
  ASSERT_EQ(layout.buckets().size(), 1U);
  for (std::size_t p = 0; p < counts.size(); ++p) {
    const Range piece = pieces.of(0, owners[p]);
    EXPECT_GE(layout.slots()[p].offset, piece.begin);
    EXPECT_LE(layout.slots()[p].offset + counts[p], piece.end);
  }
}

TEST(BucketLayout, PutsParametersOfDifferentUnitsIntoDifferentBuckets) {
  std::vector<BucketLayout::Parameter> all = parameters({10, 10, 10, 10});
  all[2].unit = all[3].unit = 1;
  const BucketLayout layout(all, ReductionTree(1, 1), 1 << 20);
  EXPECT_EQ(layout.buckets().size(), 2U);
  EXPECT_NE(layout.slots()[1].bucket, layout.slots()[2].bucket);
}

TEST(PassOrder, IsForwardAndBackwardForEachPass) {
  PassOrder order(3, 2);
  order.begin_step();
  std::vector<int> blocks;
  for (PassOrder::Place place = 0; place < order.end(); ++place) {
    blocks.push_back(order.block_at(place));
  }
  EXPECT_THAT(blocks, ElementsAre(0, 1, 2, 2, 1, 0, 0, 1, 2, 2, 1, 0));
  EXPECT_EQ(order.forward(1), 1);  // block 0 is left out
  order.advance(1);
  EXPECT_EQ(order.next_block(1), 2);
  EXPECT_EQ(order.backward(0), 5);
  order.advance(5);
  EXPECT_EQ(order.next_block(0), 0);
  EXPECT_EQ(order.backward(0), 11);
  order.advance(11);
  EXPECT_EQ(order.next_block(0), PassOrder::kNone);
  EXPECT_THAT([&] { order.forward(0); },
              ThrowsMessage<UsageError>(HasSubstr("no more use for a forward pass of block 0")));
  order.end_step();
  EXPECT_EQ(order.next_block(1), 2);
  EXPECT_EQ(order.next_block(2), PassOrder::kNone);
}

}  // namespace
}  // namespace trireme
