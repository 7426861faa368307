#include "tests/comm/backends.h"
#include "trireme/base/error.h"
#include "trireme/comm/objects.h"

namespace trireme::test {
namespace {

class Split : public OnEveryBackend {};

int sum_of(Communicator& comm, int value) {
  comm.all_reduce({&value, 1, DType::kI32}).wait();
  return value;
}

TEST_P(Split, GroupsRanksByColorOrderedByKey) {
  run([](Communicator& world) {
    const int n = world.size();
    // Uneven: rank 0 alone, all others together in reverse order.
    const auto part = world.split(world.rank() == 0 ? 7 : 2, -world.rank());
    ASSERT_EQ(part->size(), world.rank() == 0 ? 1 : n - 1);
    ASSERT_EQ(part->rank(), world.rank() == 0 ? 0 : n - 1 - world.rank());
    EXPECT_EQ(sum_of(*part, world.rank()), world.rank() == 0 ? 0 : n * (n - 1) / 2);
  });
}

TEST_P(Split, ANegativeColorGivesNull) {
  run([](Communicator& world) {
    const auto part = world.split(world.rank() == 0 ? -1 : 0);
    ASSERT_EQ(part == nullptr, world.rank() == 0);
    if (part) {
      EXPECT_EQ(sum_of(*part, 1), world.size() - 1);
    }
  });
}

TEST_P(Split, PartsAreIndependentAndMayBeSplitAgain) {
  run([](Communicator& world) {
    const auto half = world.split(world.rank() % 2);
    for (int i = 0; i < 20 * (1 + world.rank() % 2); ++i) sum_of(*half, 1);
    const auto pair = half->split(half->rank() / 2);
    EXPECT_LE(pair->size(), 2);
    EXPECT_EQ(sum_of(*pair, 1), pair->size());
    EXPECT_EQ(sum_of(world, 1), world.size());
    std::vector<float> x(100'000, 1);
    half->all_reduce(buffer_of<float>(x)).wait();
    EXPECT_EQ(x, std::vector<float>(100'000, static_cast<float>(half->size())));
  });
}

TEST_P(Split, MayBeRepeatedForEver) {
  run([](Communicator& world) {
    for (int i = 0; i < 50; ++i) {
      const auto part = world.split(world.rank() / 2);
      const Memory memory = part->allocate(3 << 20);
      static_cast<char*>(memory.data())[i] = 1;
      ASSERT_EQ(sum_of(*part, 1), part->size());
    }
  });
}

TEST_P(Split, ThatARankHasAbortedDoesNotDisturbTheNext) {
  run([](Communicator& world) {
    auto aborted = world.split(0);
    const bool first = world.rank() == world.size() - 1;
    if (first) aborted->abort(std::make_exception_ptr(CommError("given up")));
    if (!first) aborted.reset();
    world.barrier();
    const auto next = world.split(0);
    // This rank is now the only one that has the old one.
    aborted.reset();
    for (int turn = 0; turn < 3; ++turn) next->barrier();
  });
}

TEST_P(Split, OutlivesTheCommunicatorThatItCameFrom) {
  run([](Communicator& world) {
    auto inner = world.split(0);
    auto innermost = inner->split(0);
    inner.reset();
    EXPECT_EQ(sum_of(*innermost, 1), world.size());
  });
}

TEST_P(Split, AGroupHasTheListedRanksInTheirOrder) {
  run([](Communicator& world) {
    // The last rank first; every other rank.
    std::vector<int> ranks;
    for (int rank = world.size() - 1; rank >= 0; rank -= 2) ranks.push_back(rank);
    const auto place = std::find(ranks.begin(), ranks.end(), world.rank());
    const auto group = world.group(ranks);
    ASSERT_EQ(group != nullptr, place != ranks.end());
    if (!group) return;
    EXPECT_EQ(group->rank(), place - ranks.begin());
    int sum = 1 << world.rank();
    group->all_reduce({&sum, 1, DType::kI32}).wait();
    int expected = 0;
    for (const int rank : ranks) expected += 1 << rank;
    EXPECT_EQ(sum, expected);
  });
}

TEST_P(Split, GroupsThatDoNotOverlapAreMadeInOneCall) {
  run([](Communicator& world) {
    std::vector<int> ranks;
    for (int rank = world.rank() % 2; rank < world.size(); rank += 2) ranks.push_back(rank);
    EXPECT_EQ(world.group(ranks)->size(), std::ssize(ranks));
  });
}

TEST_P(Split, ObjectsOfDifferentLengthsReachEveryRank) {
  run([](Communicator& world) {
    const auto object_of = [](int rank) {
      return rank == 1 ? std::string()
                       : std::string(static_cast<std::size_t>(rank) * 3001 + 1, 'a' + rank);
    };
    std::vector<std::string> expected;
    for (int rank = 0; rank < world.size(); ++rank) expected.push_back(object_of(rank));
    EXPECT_EQ(all_gather_objects(world, object_of(world.rank())), expected);
    const int root = world.size() - 1;
    EXPECT_EQ(gather_objects(world, object_of(world.rank()), root),
              world.rank() == root ? expected : std::vector<std::string>());
    for (int from = 0; from < world.size(); ++from) {
      EXPECT_EQ(broadcast_object(world, object_of(world.rank()), from), object_of(from));
    }
    EXPECT_THROW(gather_objects(world, "", world.size()), UsageError);
  });
}

TRIREME_ON_EVERY_BACKEND(Split);

}  // namespace
}  // namespace trireme::test
