#include "trireme/comm/message/call_matcher.h"

#include <gtest/gtest.h>

#include "tests/comm/message_of.h"
#include "trireme/base/error.h"

namespace trireme::test {
namespace {

using message::CallMatcher;
using message::Frame;
using message::FrameKind;

Frame announcement(std::uint64_t number, std::int64_t count, int line = 1) {
  Frame frame;
  frame.header = {.kind = FrameKind::kAnnouncement, .number = number};
  frame.header.call.kind = OpKind::kAllReduce;
  frame.header.call.count = count;
  frame.header.site = CallSite({"a.cpp", line});
  return frame;
}

TEST(CallMatcher, IsCompleteOnceEveryRankHasAnnounced) {
  CallMatcher matcher(3);
  EXPECT_EQ(matcher.next_number(), 1u);
  for (const int rank : {2, 0, 1}) {
    EXPECT_FALSE(matcher.is_complete(1));
    matcher.add(rank, announcement(1, 10, rank));
  }
  ASSERT_TRUE(matcher.is_complete(1));
  const auto frames = matcher.match(1);
  ASSERT_EQ(frames.size(), 3u);
  for (int rank = 0; rank < 3; ++rank) EXPECT_EQ(frames[rank].header.site.line, rank);
}

TEST(CallMatcher, MatchesInTheOrderOfTheCalls) {
  CallMatcher matcher(2);
  for (const int rank : {0, 1}) matcher.add(rank, announcement(2, 10));
  EXPECT_FALSE(matcher.is_complete(2));
  for (const int rank : {0, 1}) matcher.add(rank, announcement(1, 10));
  EXPECT_FALSE(matcher.is_complete(2));
  matcher.match(1);
  EXPECT_TRUE(matcher.is_complete(2));
}

TEST(CallMatcher, NamesTheFirstRankThatDiffersAndCountsWithoutTheSetup) {
  CallMatcher matcher(3);
  for (const int rank : {0, 1, 2}) matcher.add(rank, announcement(1, 10));
  matcher.next_number();
  matcher.match(1);
  matcher.end_of_setup();
  matcher.add(0, announcement(2, 10, 5));
  matcher.add(1, announcement(2, 10, 6));
  matcher.add(2, announcement(2, 11, 7));
  EXPECT_EQ(message_of<UsageError>([&] { matcher.match(2); }),
            "all_reduce mismatch: rank 0 called all_reduce(f32[10], sum) at a.cpp:5, rank 2 called "
            "all_reduce(f32[11], sum) at a.cpp:7: all ranks must make the same calls in the same "
            "order (operation 1)");
  for (const int rank : {0, 1, 2}) matcher.add(rank, announcement(3, 10));
  EXPECT_FALSE(matcher.is_complete(3));
}

}  // namespace
}  // namespace trireme::test
