#include <gmock/gmock.h>

#include <algorithm>
#include <functional>
#include <numeric>
#include <string>
#include <vector>

#include "tests/comm/ranks.h"
#include "trireme/base/error.h"
#include "trireme/comm/operation.h"

namespace trireme::test {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;

/// What a rank calls with: every call reads and writes here, so that it can be seen untouched.
class Arena {
 public:
  explicit Arena(int rank) : words_(60'000) { std::iota(words_.begin(), words_.end(), rank); }

  Buffer in(std::int64_t count, DType dtype = DType::kF32) { return {words_.data(), count, dtype}; }
  Buffer out(std::int64_t count, DType dtype = DType::kF32) {
    return {words_.data() + words_.size() / 2, count, dtype};
  }
  bool is_untouched(int rank) const {
    return words_[0] == static_cast<float>(rank) &&
           std::adjacent_find(words_.begin(), words_.end(),
                              [](float a, float b) { return b != a + 1; }) == words_.end();
  }

 private:
  std::vector<float> words_;
};

struct Caller {
  std::string name;
  std::function<Work(Communicator&, Arena&)> call;
};

/// Calls of `ranks` ranks of which no two agree: every operation, and each in every field.
std::vector<Caller> different_calls(int ranks) {
  std::vector<Caller> calls;
  const auto add = [&](std::string name, auto call) { calls.push_back({std::move(name), call}); };
  const auto n = static_cast<std::int64_t>(ranks);
  for (const std::int64_t count : {12, 6000}) {
    const std::string size = " of " + std::to_string(count);
    for (const DType dtype : {DType::kF32, DType::kI32}) {
      const std::string what = size + " " + std::string(name_of(dtype));
      for (const ReduceOp op : {ReduceOp::kSum, ReduceOp::kMax}) {
        const std::string how = what + " " + std::string(name_of(op));
        add("all_reduce" + how,
            [=](auto& c, auto& a) { return c.all_reduce(a.in(count, dtype), op); });
        add("reduce_scatter" + how, [=](auto& c, auto& a) {
          return c.reduce_scatter(a.out(count, dtype), a.in(n * count, dtype), op);
        });
        for (const int root : {0, 1}) {
          add("reduce" + how + " to " + std::to_string(root),
              [=](auto& c, auto& a) { return c.reduce(a.in(count, dtype), root, op); });
        }
      }
      add("all_gather" + what, [=](auto& c, auto& a) {
        return c.all_gather(a.out(n * count, dtype), a.in(count, dtype));
      });
      add("all_to_all" + what, [=](auto& c, auto& a) {
        return c.all_to_all(a.out(n * count, dtype), a.in(n * count, dtype));
      });
      for (const int root : {0, 1}) {
        const std::string how = what + " root " + std::to_string(root);
        add("broadcast" + how,
            [=](auto& c, auto& a) { return c.broadcast(a.in(count, dtype), root); });
        add("gather" + how, [=](auto& c, auto& a) {
          return c.gather(a.out(n * count, dtype), a.in(count, dtype), root);
        });
        add("scatter" + how, [=](auto& c, auto& a) {
          return c.scatter(a.out(count, dtype), a.in(n * count, dtype), root);
        });
      }
    }
  }
  for (const int leaves : {2 * ranks, 2 * ranks + 1}) {
    add("all_reduce over " + std::to_string(leaves) + " leaves", [=](auto& c, auto& a) {
      const ReductionTree tree(leaves, ranks);
      const auto rows = static_cast<std::int64_t>(tree.nodes_of(c.rank()).size());
      Work work = c.all_reduce(a.in(12 * rows), ReduceOp::kSum, tree);
      work.wait();
      return work;
    });
  }
  add("barrier", [](auto& c, auto&) { return c.barrier(), Work(); });
  add("allocate", [](auto& c, auto&) { return c.allocate(100), Work(); });
  add("split", [](auto& c, auto&) { return c.split(0), Work(); });
  return calls;
}

/// The UsageError of `call`, or what came in its place.
std::string usage_error_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const UsageError& error) {
    return error.what();
  } catch (const std::exception& error) {
    return std::string("another exception: ") + error.what();
  }
  return "nothing was thrown";
}

class ShmMismatch : public testing::TestWithParam<int> {};

TEST_P(ShmMismatch, OfAnyTwoCallsEndsInOneUsageErrorBeforeDataIsTouched) {
  const int ranks = GetParam();
  const std::vector<Caller> calls = different_calls(ranks);
  for (std::size_t a = 0; a < calls.size(); ++a) {
    // One rank apart: the first, the last and, of three, the middle one.
    for (std::size_t b = a + 1; b < calls.size(); ++b) {
      const int odd = static_cast<int>((a + b) % static_cast<std::size_t>(ranks));
      std::vector<std::string> verdicts(ranks);
      run_ranks(ranks, [&](Communicator& world) {
        const int rank = world.rank();
        Arena arena(rank);
        const Caller& caller = calls[rank == odd ? b : a];
        verdicts[rank] = usage_error_of([&] { caller.call(world, arena).wait(); });
        EXPECT_TRUE(arena.is_untouched(rank)) << calls[a].name << " against " << calls[b].name;
      });
      ASSERT_THAT(verdicts[0], HasSubstr(" mismatch: rank 0 called "))
          << calls[a].name << " against " << calls[b].name;
      for (const std::string& verdict : verdicts) ASSERT_EQ(verdict, verdicts[0]);
    }
  }
}

TEST_P(ShmMismatch, OfTheOrderNamesTheOperationWhereTheRanksPart) {
  const int ranks = GetParam();
  std::vector<std::string> verdicts(ranks);
  run_ranks(ranks, [&](Communicator& world) {
    Arena arena(world.rank());
    verdicts[world.rank()] = usage_error_of([&] {
      for (int i = 1;; ++i) {
        world.barrier();
        // Operation 42, which the last rank leaves out.
        if (i != 21 || world.rank() != world.size() - 1) world.broadcast(arena.in(5), 1).wait();
      }
    });
  });
  for (const std::string& verdict : verdicts) {
    EXPECT_THAT(verdict, HasSubstr("broadcast mismatch: rank 0 called broadcast(f32[5], root 1)"));
    EXPECT_THAT(verdict, HasSubstr("rank " + std::to_string(ranks - 1) + " called barrier()"));
    EXPECT_THAT(verdict, HasSubstr("(operation 42)"));
  }
}

// Messages are matched between two ranks alone: against a collective they end in the timeout.
TEST_P(ShmMismatch, OfAMessageAndACollectiveEndsOnEveryRank) {
  const int ranks = GetParam();
  const std::vector<Caller> messages = {
      {"send", [](auto& c, auto& a) { return c.send(a.in(50'000), 1); }},
      {"recv", [](auto& c, auto& a) { return c.recv(a.in(50'000), 1); }}};
  const std::vector<Caller> collectives = {
      {"all_reduce", [](auto& c, auto& a) { return c.all_reduce(a.in(6000)); }},
      {"broadcast", [](auto& c, auto& a) { return c.broadcast(a.in(12), 0); }},
      {"barrier", [](auto& c, auto&) { return c.barrier(), Work(); }},
      {"split", [](auto& c, auto&) { return c.split(0), Work(); }}};
  for (const Caller& message : messages) {
    for (const Caller& collective : collectives) {
      std::vector<int> ended(ranks);
      run_ranks(ranks,
                [&](Communicator& world) {
                  const int rank = world.rank();
                  Arena arena(rank);
                  try {
                    (rank == 0 ? message : collective).call(world, arena).wait();
                  } catch (const CommError&) {
                    ended[rank] = 1;
                  }
                },
                {.timeout = 100ms});
      EXPECT_THAT(ended, testing::Each(1)) << message.name << " against " << collective.name;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Ranks, ShmMismatch, testing::Values(2, 3));

}  // namespace
}  // namespace trireme::test
