// A server that runs out of memory in the middle of a request. In a child: the limit holds for a
// whole process.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "trireme/server/server.h"

namespace trireme::test {
namespace {

using server::Form;
using server::Message;
using server::Part;
using server::Server;
using server::Verb;

constexpr std::size_t kWidth = 16;  // narrow: the index takes memory as well
constexpr std::size_t kKeys = 20'000;
constexpr std::size_t kMiB = std::size_t{1} << 20;

/// As long as it lives the process gets `bytes` more at most.
class MemoryLimit {
 public:
  explicit MemoryLimit(std::size_t bytes) {
    std::size_t pages = 0;
    std::ifstream("/proc/self/statm") >> pages;
    ::getrlimit(RLIMIT_AS, &before_);
    rlimit limit = before_;
    limit.rlim_cur = pages * static_cast<std::size_t>(::sysconf(_SC_PAGESIZE)) + bytes;
    ::setrlimit(RLIMIT_AS, &limit);
  }
  ~MemoryLimit() { ::setrlimit(RLIMIT_AS, &before_); }
  MemoryLimit(const MemoryLimit&) = delete;
  MemoryLimit& operator=(const MemoryLimit&) = delete;

 private:
  rlimit before_{};
};

struct CountingJournal final : server::Journal {
  void append(const Message& entry) override { pushes += entry.verb == Verb::kPush ? 1 : 0; }
  int pushes = 0;
};

/// One worker of a server with the dense table "w" and the rows "rows", all zeros in the beginning.
class OneWorker final : public server::Answers {
 public:
  OneWorker() {
    server_.keep_journal(&journal);
    const server::Declaration declaration{.dense = {{"w", kWidth}},
                                          .sparse = {{.name = "rows", .width = kWidth}}};
    ask({.verb = Verb::kJoin, .parts = {{.count = 1}}, .text = to_json(declaration)});
    store_w(0);
    numbers_.assign(kKeys * (2 + kWidth), -1.0F);
  }

  /// Adds 1 to "w" and to the rows of `kKeys` keys that no other `push` has.
  Message add_one(std::uint64_t push) {
    return ask({.verb = Verb::kPush,
                .lr = 1,
                .parts = {{.form = Form::kGradient,
                           .count = kWidth,
                           .payload = bytes().last(kWidth * sizeof(float))},
                          rows_of(push, Form::kRowGradients)}});
  }

  /// Sets "w" to `value` and the rows of `kKeys` keys to -1.
  Message store_all(float value, std::uint64_t push) {
    return store_w(value, {rows_of(push, Form::kRowValues)});
  }

  std::vector<float> w() {
    ask({.verb = Verb::kPull, .parts = {{.form = Form::kRange, .count = kWidth}}});
    return values_;
  }
  std::vector<float> rows(std::uint64_t push) {
    Part part = rows_of(push, Form::kKeys);
    part.payload = part.payload.first(kKeys * sizeof(std::uint64_t));
    ask({.verb = Verb::kPull, .parts = {part}});
    return values_;
  }

  std::span<std::byte> place(const server::Request&, std::size_t, std::size_t bytes) override {
    values_.assign(bytes / sizeof(float), 0);
    return std::as_writable_bytes(std::span(values_));
  }
  void answer(const server::Request&, const Message& answer) override { answer_ = answer; }

  CountingJournal journal;

 private:
  std::span<const std::byte> bytes() const { return std::as_bytes(std::span(numbers_)); }

  Message store_w(float value, const std::vector<Part>& and_rows = {}) {
    const std::vector<float> values(kWidth, value);
    Message message{
        .verb = Verb::kStore,
        .parts = {
            {.form = Form::kValues, .count = kWidth, .payload = std::as_bytes(std::span(values))}}};
    message.parts.insert(message.parts.end(), and_rows.begin(), and_rows.end());
    return ask(std::move(message));
  }

  // Keys, then -1 for each element.
  Part rows_of(std::uint64_t push, Form form) {
    std::vector<std::uint64_t> keys(kKeys);
    std::iota(keys.begin(), keys.end(), push * kKeys);
    std::memcpy(numbers_.data(), keys.data(), kKeys * sizeof(std::uint64_t));
    return {.table = 1, .form = form, .count = kKeys, .payload = bytes()};
  }

  // A request that is refused does not count: its number is taken again.
  Message ask(Message message) {
    message.life = 1;
    message.sequence = done_ + 1;
    server_.handle({.message = std::move(message)}, {}, *this);
    if (answer_.verb == Verb::kAnswer) ++done_;
    return answer_;
  }

  Server server_{Server::Options{}};
  std::uint64_t done_ = 0;
  std::vector<float> numbers_;
  std::vector<float> values_;
  Message answer_;
};

MATCHER_P(AllAre, value, "") {
  return std::ranges::all_of(arg, [this](float x) { return x == value; });
}

// Pushes until one is refused, and returns how many were not.
std::uint64_t push_until_refused(OneWorker& worker, std::size_t memory) {
  const MemoryLimit limit(memory);
  std::uint64_t pushes = 0;
  while (pushes < 100 && worker.add_one(pushes).verb == Verb::kAnswer) ++pushes;
  return pushes;
}

void refuse_a_push_as_a_whole(std::size_t memory) {
  OneWorker worker;
  const std::uint64_t pushes = push_until_refused(worker, memory);
  EXPECT_GT(pushes, 1);
  EXPECT_LT(pushes, 100);
  EXPECT_EQ(worker.journal.pushes, pushes) << "the backup must not hear of what was refused";
  EXPECT_THAT(worker.w(), AllAre(static_cast<float>(pushes)));
  for (std::uint64_t push = 0; push < pushes; ++push) EXPECT_THAT(worker.rows(push), AllAre(1.0F));
  EXPECT_THAT(worker.rows(pushes), AllAre(0.0F));

  EXPECT_EQ(worker.add_one(pushes).verb, Verb::kAnswer) << "there is memory again";
  EXPECT_THAT(worker.w(), AllAre(static_cast<float>(pushes + 1)));
  for (std::uint64_t push = 0; push <= pushes; ++push) EXPECT_THAT(worker.rows(push), AllAre(1.0F));
}

void refuse_values_as_a_whole(std::size_t memory) {
  OneWorker worker;
  const std::uint64_t pushes = push_until_refused(worker, memory);
  Message answer;
  {
    const MemoryLimit limit(kMiB);
    answer = worker.store_all(5, pushes);
  }
  EXPECT_EQ(answer.verb, Verb::kRefusal);
  EXPECT_THAT(answer.text, testing::HasSubstr("has not memory enough; use more shards"));
  EXPECT_THAT(worker.w(), AllAre(static_cast<float>(pushes)));
  EXPECT_THAT(worker.rows(pushes), AllAre(0.0F));
}

// With many limits: it is now the rows that there is no room for, now the index, now the notes.
[[noreturn]] void run(void (*test)(std::size_t)) {
  for (std::size_t i = 0; i < 24 && !testing::Test::HasFailure(); ++i) {
    SCOPED_TRACE(std::to_string(16 + i) + " MiB");
    test((16 + i) * kMiB);
  }
  std::fflush(nullptr);
  std::_Exit(testing::Test::HasFailure() ? 1 : 0);
}

TEST(ServerOutOfMemory, RefusesAPushAsAWhole) {
  EXPECT_EXIT(run(refuse_a_push_as_a_whole), testing::ExitedWithCode(0), "");
}

TEST(ServerOutOfMemory, RefusesValuesAsAWhole) {
  EXPECT_EXIT(run(refuse_values_as_a_whole), testing::ExitedWithCode(0), "");
}

}  // namespace
}  // namespace trireme::test
