// Requests to a server without a network, in the order that a test gives.
#include "trireme/server/server.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <optional>

namespace trireme::test {
namespace {

using server::Consistency;
using server::Message;
using server::MessageType;
using server::ModelSchema;
using server::Part;
using server::PartKind;
using server::ReplySink;
using server::Request;
using server::Server;
using Mode = Consistency::Mode;

constexpr std::int64_t kEach = 16;  // elements of the table

// Keeps the last reply, and the clock of the last reply to each worker.
struct Replies final : ReplySink {
  std::span<std::byte> allocate_reply(const Request&, std::size_t, std::size_t bytes) override {
    memory.assign(bytes, std::byte{0});
    return memory;
  }
  void send_reply(const Request&, const Message& answer) override {
    last.emplace(answer);
    last->parts.clear();
    clocks[answer.worker] = answer.clock;
  }

  std::vector<std::byte> memory;
  std::map<std::uint32_t, std::int64_t> clocks;
  std::optional<Message> last;
};

TEST(Server, LetsAReplacementBeginAtTheSlowestClockOfTheOthers) {
  Server server({});
  Replies replies;
  const ModelSchema model{.dense = {{"w", kEach}},
                          .consistency = {.mode = Mode::kBounded, .workers = 2, .staleness = 1}};
  const std::vector<float> gradient(kEach, 1);
  const Part part{.count = kEach, .payload = std::as_bytes(std::span(gradient))};
  const auto ask = [&](Message message) {
    replies.last.reset();
    server.handle({.message = std::move(message)}, {}, replies);
    return replies.last.has_value();
  };
  const auto join = [&](std::uint32_t worker, std::uint64_t incarnation) {
    EXPECT_TRUE(ask({.type = MessageType::kJoin,
                     .worker = worker,
                     .incarnation = incarnation,
                     .sequence = 1,
                     .shard = {0, 1},
                     .schema = to_json(model)}));
  };
  std::uint64_t sequence = 1;
  const auto push = [&] {
    Part pushed = part;
    pushed.kind = PartKind::kGradient;
    return ask({.type = MessageType::kPush,
                .worker = 0,
                .incarnation = 7,
                .sequence = ++sequence,
                .lr = 0.1,
                .parts = {pushed, {.kind = PartKind::kReadRange, .count = kEach}}});
  };
  join(0, 7);
  Part stored = part;
  stored.kind = PartKind::kValues;
  ASSERT_TRUE(ask({.type = MessageType::kStore,
                   .worker = 0,
                   .incarnation = 7,
                   .sequence = ++sequence,
                   .parts = {stored}}));
  join(1, 8);
  EXPECT_TRUE(push());
  EXPECT_FALSE(push()) << "two steps ahead of the other";
  server.lose(1, "it was killed", replies);
  EXPECT_TRUE(replies.last.has_value());
  for (int step = 0; step < 8; ++step) EXPECT_TRUE(push());
  join(1, 9);
  EXPECT_EQ(replies.last->clock, 10);
  EXPECT_TRUE(push());
  EXPECT_FALSE(push()) << "two steps ahead of where the other began";
  // Before the loss of its predecessor is noticed: reads that waited for that are replied to.
  join(1, 10);
  EXPECT_EQ(replies.clocks[1], 12);
  EXPECT_EQ(replies.clocks[0], 12);
}

/// Two workers of a synchronous server with one table of three values, which are 0 at first.
class TwoWorkers {
 public:
  explicit TwoWorkers(std::vector<int> virtual_workers = {}) {
    const ModelSchema model{.dense = {{"w", 3}},
                            .consistency = {.mode = Mode::kSynchronous,
                                            .workers = 2,
                                            .virtual_workers = std::move(virtual_workers)}};
    for (std::uint32_t worker = 0; worker < 2; ++worker) {
      ask({.type = MessageType::kJoin,
           .worker = worker,
           .shard = {0, 1},
           .schema = to_json(model)});
    }
    const std::vector<float> zeros(3);
    ask({.type = MessageType::kStore,
         .parts = {
             {.kind = PartKind::kValues, .count = 3, .payload = std::as_bytes(std::span(zeros))}}});
  }

  /// Returns the reply, if there is one: the second push of a step has that of both.
  std::optional<Message> push(std::uint32_t worker, const std::vector<float>& rows,
                              double divisor) {
    return ask({.type = MessageType::kPush,
                .worker = worker,
                .clock = server.version(),
                .lr = 1,
                .scale = -1,
                .divisor = divisor,
                .parts = {{.kind = PartKind::kGradient,
                           .count = 3,
                           .payload = std::as_bytes(std::span(rows_[worker] = rows))}}});
  }

  std::vector<float> values() const {
    std::vector<float> values(3);
    server.store()->read({.kind = PartKind::kReadRange, .count = 3},
                         std::as_writable_bytes(std::span(values)));
    return values;
  }

  Server server{Server::Options{}};

 private:
  std::optional<Message> ask(Message message) {
    message.incarnation = 1;
    message.sequence = ++sequence_;
    replies_.last.reset();
    server.handle({.message = std::move(message)}, {}, replies_);
    return replies_.last;
  }

  Replies replies_;
  std::uint64_t sequence_ = 0;
  std::map<std::uint32_t, std::vector<float>> rows_;  // until both have pushed
};

TEST(Server, DividesTheSumOfAStepByTheDivisorOfItsPushes) {
  TwoWorkers workers(
      {3, 1});  // worker 0 pushes two partial sums: of two virtual workers and of one
  EXPECT_FALSE(workers.push(0, {1, 1, 3, 1e8F, 2, 4}, 7));
  EXPECT_TRUE(workers.push(1, {-1e8F, 3, 5}, 7));
  // The sum is first + (second + third): 1 + (1e8 - 1e8) in the first element.
  EXPECT_EQ(workers.values(), (std::vector<float>{1 / 7.0F, 6 / 7.0F, 12 / 7.0F}));
}

TEST(Server, DividesByTheNumberOfVirtualWorkersWithoutADivisor) {
  for (const double divisor : {0.0, 4.0}) {
    TwoWorkers workers({3, 1});
    workers.push(0, {1, 1, 3, 1, 2, 4}, divisor);
    workers.push(1, {1, 3, 5}, divisor);
    EXPECT_EQ(workers.values(), (std::vector<float>{3 / 4.0F, 6 / 4.0F, 12 / 4.0F})) << divisor;
  }
}

TEST(Server, RejectsAPushWithAnotherDivisorThanTheRestOfItsStep) {
  TwoWorkers workers;
  EXPECT_FALSE(workers.push(0, {1, 2, 3}, 5));
  const auto reply = workers.push(1, {1, 2, 3}, 6);
  ASSERT_TRUE(reply);
  EXPECT_EQ(reply->error, server::ErrorCode::kUsage);
  EXPECT_THAT(reply->reason,
              testing::HasSubstr("worker 1: pushes step 1 with the divisor 6, and worker 0 with 5; "
                                 "all workers must push a step with the same divisor"));
  EXPECT_EQ(workers.values(), std::vector<float>(3)) << "nothing is applied";
  EXPECT_TRUE(workers.push(1, {1, 2, 3}, 5)) << "with the right one the step is complete";
  EXPECT_EQ(workers.values(), (std::vector<float>{2 / 5.0F, 4 / 5.0F, 6 / 5.0F}));
}

TEST(Server, TakesADivisorInSynchronousTrainingOnly) {
  for (const Consistency& consistency :
       {Consistency{.mode = Mode::kAsynchronous, .workers = 1},
        Consistency{.mode = Mode::kBounded, .workers = 1},
        Consistency{.mode = Mode::kSynchronous, .workers = 2, .backup_workers = 1}}) {
    Server server({});
    Replies replies;
    const auto ask = [&](Message message) {
      server.handle({.message = std::move(message)}, {}, replies);
      return *replies.last;
    };
    ask({.type = MessageType::kJoin,
         .incarnation = 1,
         .sequence = 1,
         .shard = {0, 1},
         .schema = to_json(ModelSchema{.dense = {}, .consistency = consistency})});
    EXPECT_THAT(
        ask({.type = MessageType::kPush, .incarnation = 1, .sequence = 2, .divisor = 3}).reason,
        testing::HasSubstr("divi"));
    EXPECT_EQ(server.version(), 0);
  }
}

// Otherwise the other worker would wait for a step that can no longer be completed.
TEST(Server, EndsAStepThatCannotBeCompletedOnceAWorkerIsLost) {
  Server server({});
  Replies replies;
  const ModelSchema model{
      .dense = {{"w", kEach}},
      .consistency = {.mode = Mode::kSynchronous, .workers = 3, .backup_workers = 1}};
  const std::vector<float> gradient(kEach, 1);
  std::uint64_t sequence = 0;
  const auto ask = [&](std::uint32_t worker, Message message) {
    message.worker = worker;
    message.incarnation = 1;
    message.sequence = ++sequence;
    replies.last.reset();
    server.handle({.message = std::move(message)}, {}, replies);
    return replies.last.has_value();
  };
  for (std::uint32_t worker = 0; worker < 3; ++worker) {
    ask(worker, {.type = MessageType::kJoin, .shard = {0, 1}, .schema = to_json(model)});
  }
  ask(0, {.type = MessageType::kStore,
          .parts = {{.kind = PartKind::kValues,
                     .count = kEach,
                     .payload = std::as_bytes(std::span(gradient))}}});
  ask(2, {.type = MessageType::kLeave});
  EXPECT_FALSE(ask(0, {.type = MessageType::kPush,
                       .parts = {{.kind = PartKind::kGradient,
                                  .count = kEach,
                                  .payload = std::as_bytes(std::span(gradient))}}}));
  server.lose(1, "it was killed", replies);
  ASSERT_TRUE(replies.last);
  EXPECT_EQ(replies.last->type, MessageType::kReply);
  EXPECT_EQ(server.version(), 0);
}

}  // namespace
}  // namespace trireme::test
