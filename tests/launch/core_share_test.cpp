#include "trireme/launch/core_share.h"

#include <gmock/gmock.h>

#include <set>

#include "tests/comm/ranks.h"
#include "trireme/launch/machine.h"

namespace trireme {
namespace {

using testing::ElementsAre;

std::vector<int> from_to(int first, int last) {
  std::vector<int> cores;
  for (int core = first; core <= last; ++core) cores.push_back(core);
  return cores;
}

TEST(CoreShare, OfRanksThatAreNotBoundIsAPartOfTheirCores) {
  const std::vector<RankCores> three(3, {7, from_to(0, 7)});
  const CoreShare first = share_of(three, 0), second = share_of(three, 1),
                  third = share_of(three, 2);
  EXPECT_THAT(first.cores, ElementsAre(0, 1, 2));
  EXPECT_THAT(second.cores, ElementsAre(3, 4, 5));
  EXPECT_THAT(third.cores, ElementsAre(6, 7));
  for (const CoreShare& share : {first, second, third}) {
    EXPECT_TRUE(share.is_own);
    EXPECT_EQ(share.threads, 2) << "the same on each: 8 / 3";
    EXPECT_EQ(share.ranks_of_host, 3);
    EXPECT_EQ(share.cores_of_host, 8);
  }
}

TEST(CoreShare, OfBoundRanksIsWhatTheirLauncherHasGivenThem) {
  const std::vector<RankCores> ranks = {{7, {0, 1}}, {7, {2, 3}}, {7, {5}}};
  EXPECT_THAT(share_of(ranks, 1).cores, ElementsAre(2, 3));
  EXPECT_EQ(share_of(ranks, 1).threads, 2);
  EXPECT_TRUE(share_of(ranks, 1).is_own);
  EXPECT_THAT(share_of(ranks, 2).cores, ElementsAre(5));
  EXPECT_EQ(share_of(ranks, 2).threads, 1);
  EXPECT_EQ(share_of(ranks, 2).cores_of_host, 5);
}

TEST(CoreShare, OfRanksOnTheirSocketIsAPartOfTheSocket) {
  const std::vector<RankCores> ranks = {
      {7, from_to(0, 3)}, {7, from_to(0, 3)}, {7, from_to(4, 7)}, {7, from_to(4, 7)}};
  EXPECT_THAT(share_of(ranks, 1).cores, ElementsAre(2, 3));
  EXPECT_THAT(share_of(ranks, 3).cores, ElementsAre(6, 7));
  EXPECT_EQ(share_of(ranks, 3).threads, 2);
}

TEST(CoreShare, IsNotSharedWithRanksOfOtherHosts) {
  const std::vector<RankCores> ranks = {{7, {0, 1}}, {8, {0, 1}}, {8, {0, 1}}};
  EXPECT_EQ(share_of(ranks, 0).threads, 2);
  EXPECT_EQ(share_of(ranks, 0).ranks_of_host, 1);
  EXPECT_EQ(share_of(ranks, 2).threads, 1);
  EXPECT_THAT(share_of(ranks, 2).cores, ElementsAre(1));
}

TEST(CoreShare, OfMoreRanksThanCoresIsACoreInTurnThatIsNotTheirOwn) {
  const std::vector<RankCores> five(5, {7, {3, 9}});
  for (int rank = 0; rank < 5; ++rank) {
    const CoreShare share = share_of(five, rank);
    EXPECT_THAT(share.cores, ElementsAre(rank % 2 == 0 ? 3 : 9));
    EXPECT_FALSE(share.is_own);
    EXPECT_EQ(share.threads, 1);
  }
}

TEST(CoreShare, OfSetsThatOverlapInPartCountsEachCoreByItsUsers) {
  // Cores 0 and 1 have one user, 2 and 3 two.
  const std::vector<RankCores> ranks = {{7, from_to(0, 3)}, {7, {2, 3}}};
  EXPECT_EQ(share_of(ranks, 0).threads, 3);
  EXPECT_EQ(share_of(ranks, 1).threads, 1);
  EXPECT_THAT(share_of(ranks, 0).cores, ElementsAre(0, 1, 2, 3));
  EXPECT_FALSE(share_of(ranks, 0).is_own);
}

TEST(CoreShare, ObeysTheQuotaOfAContainer) {
  const std::vector<RankCores> two(2, {7, from_to(0, 63), 6});
  EXPECT_EQ(share_of(two, 1).threads, 3);
  EXPECT_EQ(share_of(two, 1).cores_of_host, 6);
  const std::vector<RankCores> many(8, {7, from_to(0, 63), 6});
  EXPECT_EQ(share_of(many, 0).threads, 1);
}

TEST(CoreShare, OfRanksThatMeetIsDisjoint) {
  for (const int ranks : {1, 2, 3}) {
    std::vector<CoreShare> shares(static_cast<std::size_t>(ranks));
    test::run_ranks(ranks, [&](Communicator& world) {
      shares[static_cast<std::size_t>(world.rank())] = share_cores(world);
    });
    std::multiset<int> all;
    for (const CoreShare& share : shares) {
      all.insert(share.cores.begin(), share.cores.end());
      EXPECT_EQ(share.ranks_of_host, ranks);
      EXPECT_EQ(share.threads, std::max(1, usable_cores() / ranks));
    }
    const std::vector<int> cores = cores_of_affinity();
    if (ranks > std::ssize(cores)) continue;
    EXPECT_EQ(all, std::multiset<int>(cores.begin(), cores.end()));
  }
}

}  // namespace
}  // namespace trireme
