#include <gmock/gmock.h>

#include <functional>
#include <string>
#include <vector>

#include "tests/comm/message_of.h"
#include "tests/comm/ranks.h"
#include "trireme/base/error.h"

namespace trireme::test {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;

struct Caller {
  std::string name;
  std::function<Work(Communicator&, std::vector<float>&)> call;
};

Buffer first(std::vector<float>& x, std::int64_t count) {
  return {x.data(), count, DType::kF32};
}

class ShmMismatch : public testing::TestWithParam<int> {};

TEST_P(ShmMismatch, OfTheOrderNamesTheOperationWhereTheRanksPart) {
  const int ranks = GetParam();
  std::vector<std::string> verdicts(ranks);
  run_ranks(ranks, [&](Communicator& world) {
    std::vector<float> x(60'000);
    verdicts[world.rank()] = message_of<UsageError>([&] {
      for (int i = 1;; ++i) {
        world.barrier();
        // Operation 42, which the last rank leaves out.
        if (i != 21 || world.rank() != world.size() - 1) world.broadcast(first(x, 5), 1).wait();
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
      {"send", [](auto& c, auto& a) { return c.send(first(a, 50'000), 1); }},
      {"recv", [](auto& c, auto& a) { return c.recv(first(a, 50'000), 1); }}};
  const std::vector<Caller> collectives = {
      {"all_reduce", [](auto& c, auto& a) { return c.all_reduce(first(a, 6000)); }},
      {"broadcast", [](auto& c, auto& a) { return c.broadcast(first(a, 12), 0); }},
      {"barrier", [](auto& c, auto&) { return c.barrier(), Work(); }},
      {"split", [](auto& c, auto&) { return c.split(0), Work(); }}};
  for (const Caller& message : messages) {
    for (const Caller& collective : collectives) {
      std::vector<int> ended(ranks);
      run_ranks(ranks,
                [&](Communicator& world) {
                  const int rank = world.rank();
                  std::vector<float> x(60'000);
                  try {
                    (rank == 0 ? message : collective).call(world, x).wait();
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
