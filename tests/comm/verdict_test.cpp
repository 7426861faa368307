#include <gmock/gmock.h>

#include <chrono>
#include <set>
#include <thread>

#include "tests/comm/backends.h"
#include "tests/comm/calls.h"
#include "tests/comm/message_of.h"
#include "trireme/base/error.h"
#include "trireme/base/random.h"

namespace trireme::test {
namespace {

/// The errors that a mismatch, a silent rank or a lost rank causes, on every backend.
class Verdict : public OnEveryBackend {
 protected:
  static std::vector<float> pattern(int rank) {
    std::vector<float> x(kCallFloats);
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i % 1009 + rank);
    return x;
  }

  /// Every rank's text, on every rank.
  static std::set<std::string> texts_of_all(Communicator& world, const std::string& mine) {
    constexpr std::int64_t kRoom = 512;
    std::vector<std::uint8_t> own(kRoom);
    std::copy_n(mine.begin(), std::min<std::size_t>(mine.size(), kRoom - 1), own.begin());
    std::vector<std::uint8_t> all(kRoom * world.size());
    world.all_gather(buffer_of<std::uint8_t>(all), buffer_of<std::uint8_t>(own)).wait();
    std::set<std::string> texts;
    for (int rank = 0; rank < world.size(); ++rank) {
      texts.insert(reinterpret_cast<const char*>(all.data() + rank * kRoom));
    }
    return texts;
  }
};

TEST_P(Verdict, OfAnyTwoCallsIsTheSameUsageErrorOnEveryRankAndTouchesNoData) {
  const Backend backend = std::get<0>(GetParam());
  const bool is_shm = backend == Backend::kThreads || backend == Backend::kProcesses;
  int every = ranks() == 2 ? (is_shm ? 1 : 3) : 5;
  if (under_thread_sanitizer()) every = is_shm ? 5 : 17;
  run([every](Communicator& world) {
    const auto calls = different_calls(world.size());
    const auto count = static_cast<int>(calls.size());
    const std::vector<float> before = pattern(world.rank());
    double slowest = 0;
    int verdicts = 0;
    // Each rank in turn makes every other call than the rest; or every so many of them, so that
    // each call is on either side.
    for (int a = 0; a < count; ++a) {
      for (int step = 1; step < count; step += every) {
        const int b = (a + step) % count;
        const int odd = (a + step) % world.size();
        const auto part = world.split(0);
        std::vector<float> x = before;
        world.barrier();
        const auto begin = std::chrono::steady_clock::now();
        const std::string verdict = message_of<UsageError>(
            [&] { calls[world.rank() == odd ? b : a].start(*part, x).wait(); });
        const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
        slowest = std::max(slowest, took.count());
        ++verdicts;
        ASSERT_THAT(verdict, testing::HasSubstr(" mismatch: rank 0 called "))
            << calls[a].name << " and " << calls[b].name;
        ASSERT_THAT(verdict, testing::HasSubstr("calls.h:"));
        ASSERT_EQ(texts_of_all(world, verdict).size(), 1U)
            << calls[a].name << " and " << calls[b].name;
        ASSERT_EQ(x, before) << calls[a].name << " and " << calls[b].name;
        // It is over, and the world is not.
        ASSERT_EQ(message_of<UsageError>([&] { part->barrier(); }), verdict);
      }
    }
    testing::Test::RecordProperty("slowest_verdict_ms", std::to_string(1000 * slowest));
    if (world.rank() == 0)
      std::printf("    the slowest of %d verdicts came in %.1f ms\n", verdicts, 1000 * slowest);
  });
}

TEST_P(Verdict, OfCallsInAnotherOrderIsAUsageErrorToo) {
  run([](Communicator& world) {
    const auto part = world.split(0);
    std::vector<std::vector<float>> x(6);  // each in flight at the same time
    std::vector<Work> works;
    const std::string verdict = message_of<UsageError>([&] {
      for (int i = 0; i < 6; ++i) {
        const bool swapped = world.rank() == 1 && (i == 3 || i == 4);
        x[i].resize(swapped ? 3007 - i : 3000 + i);
        works.push_back(part->all_reduce({x[i].data(), std::ssize(x[i]), DType::kF32}));
      }
      for (Work& work : works) work.wait();
      part->barrier();
    });
    EXPECT_THAT(verdict,
                testing::HasSubstr("rank 1 called all_reduce(f32[3004]" + memory() + ", sum)"));
    EXPECT_THAT(verdict,
                testing::HasSubstr("(operation " + std::to_string(first_operation() + 3) + ")"));
    EXPECT_EQ(texts_of_all(world, verdict).size(), 1U);
  });
}

TEST_P(Verdict, OfAMismatchIsThrownByTestToo) {
  run([](Communicator& world) {
    for (const std::int64_t count : {3, 3000}) {
      const auto part = world.split(0);
      std::vector<float> x(static_cast<std::size_t>(count) + 1);
      const std::string verdict = message_of<UsageError>([&] {
        Work work = part->all_reduce({x.data(), count + world.rank() % 2, DType::kF32});
        while (!work.test()) std::this_thread::yield();
      });
      EXPECT_THAT(verdict, testing::HasSubstr("all_reduce mismatch: rank 0 called"));
      EXPECT_EQ(texts_of_all(world, verdict).size(), 1U);
    }
  });
}

INSTANTIATE_TEST_SUITE_P(Ranks, Verdict,
                         testing::ValuesIn(on({Backend::kThreads, Backend::kProcesses,
                                               Backend::kMessages, Backend::kTwoHosts},
                                              2)),
                         backend_name);
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(Verdict);

}  // namespace
}  // namespace trireme::test
