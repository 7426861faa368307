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

using server::Message;
using server::MessageType;
using server::Part;
using server::PartKind;
using server::Server;

constexpr std::size_t kWidth = 16;  // narrow: the index takes memory as well
constexpr std::size_t kKeys = 20'000;
constexpr std::size_t kMiB = std::size_t{1} << 20;

/// While it exists the process can allocate at most `bytes` more.
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

struct CountingJournal final : server::ReplicationLog {
  void append(const Message& entry) override { pushes += entry.type == MessageType::kPush ? 1 : 0; }
  int pushes = 0;
};

/// One worker of a server with the dense table "w" and the rows "rows", all zeros in the beginning.
class OneWorker final : public server::ReplySink {
 public:
  OneWorker() {
    server_.set_replication_log(&journal);
    const server::ModelSchema schema{.dense = {{"w", kWidth}},
                                     .sparse = {{.name = "rows", .width = kWidth}}};
    ask({.type = MessageType::kJoin, .shard = {0, 1}, .schema = to_json(schema)});
    store_w(0);
    numbers_.assign(kKeys * (2 + kWidth), -1.0F);
  }

  /// Adds 1 to "w" and to the rows of `kKeys` keys that no other `push` has.
  Message add_one(std::uint64_t push) {
    return ask({.type = MessageType::kPush,
                .lr = 1,
                .parts = {{.kind = PartKind::kGradient,
                           .count = kWidth,
                           .payload = bytes().last(kWidth * sizeof(float))},
                          rows_of(push, PartKind::kRowGradients)}});
  }

  /// Sets "w" to `value` and the rows of `kKeys` keys to -1.
  Message store_all(float value, std::uint64_t push) {
    return store_w(value, {rows_of(push, PartKind::kRowValues)});
  }

  std::vector<float> w() {
    ask({.type = MessageType::kPull, .parts = {{.kind = PartKind::kReadRange, .count = kWidth}}});
    return values_;
  }
  std::vector<float> rows(std::uint64_t push) {
    Part part = rows_of(push, PartKind::kReadRows);
    part.payload = part.payload.first(kKeys * sizeof(std::uint64_t));
    ask({.type = MessageType::kPull, .parts = {part}});
    return values_;
  }

  std::span<std::byte> allocate_reply(const server::Request&, std::size_t,
                                      std::size_t bytes) override {
    values_.assign(bytes / sizeof(float), 0);
    return std::as_writable_bytes(std::span(values_));
  }
  void send_reply(const server::Request&, const Message& reply) override { reply_ = reply; }

  CountingJournal journal;

 private:
  std::span<const std::byte> bytes() const { return std::as_bytes(std::span(numbers_)); }

  Message store_w(float value, const std::vector<Part>& and_rows = {}) {
    const std::vector<float> values(kWidth, value);
    Message message{.type = MessageType::kStore,
                    .parts = {{.kind = PartKind::kValues,
                               .count = kWidth,
                               .payload = std::as_bytes(std::span(values))}}};
    message.parts.insert(message.parts.end(), and_rows.begin(), and_rows.end());
    return ask(std::move(message));
  }

  // Keys, then -1 for each element.
  Part rows_of(std::uint64_t push, PartKind form) {
    std::vector<std::uint64_t> keys(kKeys);
    std::iota(keys.begin(), keys.end(), push * kKeys);
    std::memcpy(numbers_.data(), keys.data(), kKeys * sizeof(std::uint64_t));
    return {.table = 1, .kind = form, .count = kKeys, .payload = bytes()};
  }

  // The number of a rejected request is used again.
  Message ask(Message message) {
    message.incarnation = 1;
    message.sequence = done_ + 1;
    server_.handle({.message = std::move(message)}, {}, *this);
    if (reply_.type == MessageType::kReply) ++done_;
    return reply_;
  }

  Server server_{Server::Options{}};
  std::uint64_t done_ = 0;
  std::vector<float> numbers_;
  std::vector<float> values_;
  Message reply_;
};

MATCHER_P(AllAre, value, "") {
  return std::ranges::all_of(arg, [this](float x) { return x == value; });
}

// Pushes until a push is rejected, and returns the number of pushes before it.
std::uint64_t push_until_rejected(OneWorker& worker, std::size_t memory) {
  const MemoryLimit limit(memory);
  std::uint64_t pushes = 0;
  while (pushes < 100 && worker.add_one(pushes).type == MessageType::kReply) ++pushes;
  return pushes;
}

void reject_a_push_completely(std::size_t memory) {
  OneWorker worker;
  const std::uint64_t pushes = push_until_rejected(worker, memory);
  EXPECT_GT(pushes, 1);
  EXPECT_LT(pushes, 100);
  EXPECT_EQ(worker.journal.pushes, pushes) << "a rejected push must not be in the replication log";
  EXPECT_THAT(worker.w(), AllAre(static_cast<float>(pushes)));
  for (std::uint64_t push = 0; push < pushes; ++push) EXPECT_THAT(worker.rows(push), AllAre(1.0F));
  EXPECT_THAT(worker.rows(pushes), AllAre(0.0F));

  EXPECT_EQ(worker.add_one(pushes).type, MessageType::kReply) << "there is memory again";
  EXPECT_THAT(worker.w(), AllAre(static_cast<float>(pushes + 1)));
  for (std::uint64_t push = 0; push <= pushes; ++push) EXPECT_THAT(worker.rows(push), AllAre(1.0F));
}

void reject_values_completely(std::size_t memory) {
  OneWorker worker;
  const std::uint64_t pushes = push_until_rejected(worker, memory);
  Message answer;
  {
    const MemoryLimit limit(kMiB);
    answer = worker.store_all(5, pushes);
  }
  EXPECT_EQ(answer.type, MessageType::kError);
  EXPECT_THAT(answer.reason, testing::HasSubstr("is out of memory; use more shards"));
  EXPECT_THAT(worker.w(), AllAre(static_cast<float>(pushes)));
  EXPECT_THAT(worker.rows(pushes), AllAre(0.0F));
}

// With many limits: memory runs out for the rows, for the index or for the metadata.
[[noreturn]] void run(void (*test)(std::size_t)) {
  for (std::size_t i = 0; i < 24 && !testing::Test::HasFailure(); ++i) {
    SCOPED_TRACE(std::to_string(16 + i) + " MiB");
    test((16 + i) * kMiB);
  }
  std::fflush(nullptr);
  std::_Exit(testing::Test::HasFailure() ? 1 : 0);
}

TEST(ServerOutOfMemory, RejectsAPushCompletely) {
  EXPECT_EXIT(run(reject_a_push_completely), testing::ExitedWithCode(0), "");
}

TEST(ServerOutOfMemory, RejectsValuesCompletely) {
  EXPECT_EXIT(run(reject_values_completely), testing::ExitedWithCode(0), "");
}

}  // namespace
}  // namespace trireme::test
