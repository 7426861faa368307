// Requests that would take more memory than a server may use, or that would harm other clients.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <optional>

#include "tests/base/resident_bytes.h"
#include "tests/comm/message_of.h"
#include "trireme/base/error.h"
#include "trireme/formats/json_limits.h"
#include "trireme/kernels/compress.h"
#include "trireme/server/rows.h"
#include "trireme/server/server.h"

namespace trireme::test {
namespace {

using namespace std::chrono_literals;
using server::Consistency;
using server::ErrorCode;
using server::Message;
using server::MessageType;
using server::ModelSchema;
using server::Part;
using server::PartKind;
using server::Request;
using server::Server;
using testing::HasSubstr;
using Mode = Consistency::Mode;

constexpr std::size_t kMiB = std::size_t{1} << 20;

/// A server, and requests to it in the name of any worker.
class OneServer final : public server::ReplySink {
 public:
  explicit OneServer(Server::Options options) : server_(std::move(options)) {}

  Message ask(Message message, Server::Time now = {}) {
    message.incarnation = message.incarnation == 0 ? 1 + message.worker : message.incarnation;
    message.sequence = ++sequence_;
    reply_.reset();
    server_.handle({.message = std::move(message)}, now, *this);
    return reply_.value_or(Message{});
  }

  Message join(const ModelSchema& schema, std::uint32_t worker = 0) {
    return ask(
        {.type = MessageType::kJoin, .worker = worker, .shard = {0, 1}, .schema = to_json(schema)});
  }

  std::span<std::byte> allocate_reply(const Request&, std::size_t, std::size_t bytes) override {
    allocated += bytes;
    memory_.assign(bytes / 8 + 1, 0);
    return std::as_writable_bytes(std::span(memory_)).first(bytes);
  }
  void send_reply(const Request&, const Message& reply) override {
    reply_ = reply;
    reply_->parts.clear();
  }

  std::size_t allocated = 0;  // for replies

 private:
  Server server_;
  std::uint64_t sequence_ = 0;
  std::vector<std::uint64_t> memory_;
  std::optional<Message> reply_;
};

// A part for `count` keys from `first` on, followed by `bytes_each` zeros for each.
class Keys {
 public:
  Keys(std::uint64_t first, std::size_t count, std::size_t bytes_each)
      : count_(count), words_(count + (count * bytes_each + 7) / 8) {
    std::iota(words_.begin(), words_.begin() + static_cast<std::ptrdiff_t>(count), first);
    bytes_ = count * (8 + bytes_each);
  }
  Part part(std::uint32_t table, PartKind kind, std::uint8_t array = 0) const {
    return {.table = table,
            .kind = kind,
            .array = array,
            .count = static_cast<std::int64_t>(count_),
            .payload = std::as_bytes(std::span(words_)).first(bytes_)};
  }

 private:
  std::size_t count_;
  std::vector<std::uint64_t> words_;
  std::size_t bytes_;
};

TEST(ServerMemory, IsNotTakenByRowsThatAFewBytesWouldMake) {
  OneServer server({.max_model_bytes = 64 * kMiB});
  server.join({.dense = {}, .sparse = {{.name = "wide", .width = 1 << 18}}});
  // 16 bytes each, a key and its number of updates, for rows of 1 MiB.
  const Keys steps(0, 4000, 8);
  const std::size_t before = resident_bytes();
  const Message refused = server.ask(
      {.type = MessageType::kStore, .parts = {steps.part(0, PartKind::kRowValues, 255)}});
  EXPECT_EQ(refused.error, ErrorCode::kUsage);
  EXPECT_THAT(refused.reason, HasSubstr("may hold 67108864 bytes, and with the rows of this"));
  EXPECT_LT(resident_bytes(), before + 32 * kMiB);
  // What fits is taken, and again for the same rows.
  const Keys few(0, 20, 8);
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(
        server.ask({.type = MessageType::kStore, .parts = {few.part(0, PartKind::kRowValues, 255)}})
            .type,
        MessageType::kReply);
  }
}

TEST(ServerMemory, CountsTheIndexOfNarrowRows) {
  OneServer server({.max_model_bytes = 4 * kMiB});
  server.join({.dense = {}, .sparse = {{.name = "narrow", .width = 1}}});
  // 400,000 rows of 4 bytes, 1.6 MB of values: their keys and index take more.
  const Keys rows(0, 400'000, 4);
  EXPECT_EQ(server
                .ask({.type = MessageType::kPush,
                      .lr = 1,
                      .parts = {rows.part(0, PartKind::kRowGradients)}})
                .error,
            ErrorCode::kUsage);
}

TEST(ServerMemory, CountsTheRowsOfPushesThatWait) {
  OneServer server({.max_model_bytes = 64 * kMiB});
  const ModelSchema model{.dense = {},
                          .sparse = {{.name = "rows", .width = 1024}},
                          .consistency = {.mode = Mode::kSynchronous, .workers = 3}};
  for (std::uint32_t worker = 0; worker < 3; ++worker) server.join(model, worker);
  // Each has rows of 32 MiB of its own; none exists before all have pushed.
  std::vector<Keys> rows;
  for (std::uint64_t worker = 0; worker < 3; ++worker) rows.emplace_back(worker << 20, 8000, 4096);
  std::vector<Message> replies;
  for (std::uint32_t worker = 0; worker < 3; ++worker) {
    replies.push_back(server.ask({.type = MessageType::kPush,
                                  .worker = worker,
                                  .lr = 1,
                                  .parts = {rows[worker].part(0, PartKind::kRowGradients)}}));
  }
  EXPECT_EQ(replies[0].error, ErrorCode::kNone);
  EXPECT_EQ(replies[1].error, ErrorCode::kUsage) << replies[1].reason;
}

TEST(ServerMemory, CountsWhatEncodedGradientsBecome) {
  OneServer server({.max_held_bytes = 6 * kMiB});
  constexpr std::int64_t kCount = 1 << 20;
  const ModelSchema model{.dense = {{"w", kCount}},
                          .consistency = {.mode = Mode::kSynchronous, .workers = 3}};
  for (std::uint32_t worker = 0; worker < 3; ++worker) server.join(model, worker);
  const std::vector<float> zeros(kCount);
  server.ask({.type = MessageType::kStore,
              .parts = {{.kind = PartKind::kValues,
                         .count = kCount,
                         .payload = std::as_bytes(std::span(zeros))}}});
  // One element in a thousand travels, and 4 MiB wait.
  Compressor compressor({.codec = "top_k", .ratio = 0.001}, std::vector{kCount}, {0, kCount}, 1);
  std::vector<std::byte> encoded(compressor.bytes());
  compressor.encode({const_cast<float*>(zeros.data()), kCount, DType::kF32}, 0, encoded);
  const auto push = [&](std::uint32_t worker) {
    return server.ask(
        {.type = MessageType::kPush,
         .worker = worker,
         .lr = 1,
         .parts = {{.kind = PartKind::kEncodedGradient, .count = kCount, .payload = encoded}}});
  };
  EXPECT_EQ(push(0).error, ErrorCode::kNone);
  EXPECT_THAT(push(1).reason, HasSubstr("may hold 6291456 bytes of gradients that wait"));
}

TEST(ServerMemory, IsNotTakenByTheTablesOfASchema) {
  OneServer server({.max_model_bytes = 64 * kMiB});
  ModelSchema tables{.dense = {}};
  for (int i = 0; i < 30'000; ++i) {
    tables.sparse.push_back({.name = std::to_string(i), .width = 1});
  }
  EXPECT_EQ(server.join(tables).error, ErrorCode::kUsage);
  // 2^15 tables of 2^46 elements of 8 bytes: 2^64 bytes, which is 0 in 64 bits.
  ModelSchema huge{.dense = {}};
  for (int i = 0; i < 1 << 15; ++i) {
    huge.dense.push_back({std::to_string(i), std::int64_t{1} << 46, DType::kF64});
  }
  EXPECT_THAT(server.join(huge).reason, HasSubstr("may hold 67108864 bytes"));
  EXPECT_EQ(server.join({.dense = {{"w", 16}}}).type, MessageType::kReply);
}

TEST(Rows, NeedTheBytesThatTheySayBeforehand) {
  for (const std::int64_t width : {1, 7, 1000, 1 << 20}) {
    server::Rows rows({.name = "t", .width = width, .optimizer = {.name = "adam"}});
    std::uint64_t next = 0;
    for (const std::size_t more : {1, 5, 100, 3, 2000}) {
      if (width == 1 << 20 && more > 5) break;
      std::vector<std::uint64_t> keys(more);
      std::iota(keys.begin(), keys.end(), next);
      next += more / 2 + 1;  // half of the next are there already
      keys.push_back(keys.front());
      const std::size_t expected = rows.bytes_with(keys);
      rows.reserve(keys);
      EXPECT_EQ(rows.bytes(), expected) << width << " " << more;
    }
  }
}

TEST(ServerReads, OfOneElementTwiceAreRefused) {
  OneServer server({});
  server.join({.dense = {{"w", 64}, {"v", 64}}, .sparse = {{.name = "t", .width = 2}}});
  const std::vector<float> zeros(64);
  std::vector<Part> values;
  for (std::uint32_t table : {0U, 1U}) {
    values.push_back({.table = table,
                      .kind = PartKind::kValues,
                      .count = 64,
                      .payload = std::as_bytes(std::span(zeros))});
  }
  server.ask({.type = MessageType::kStore, .parts = values});
  const auto read = [&](std::vector<Part> parts) {
    return server.ask(
        {.type = MessageType::kFetch, .worker = server::kObserver, .parts = std::move(parts)});
  };
  const Part all{.kind = PartKind::kReadRange, .count = 64};
  const Part half{.kind = PartKind::kReadRange, .first = 32, .count = 32};
  Part last = half;
  last.first = 63;
  last.count = 1;
  Part keys{.table = 2, .kind = PartKind::kReadKeys, .count = 10};
  server.allocated = 0;
  for (const auto& parts :
       {std::vector<Part>(64, all), {all, half}, {half, all}, {half, last}, {keys, keys}}) {
    EXPECT_THAT(read(parts).reason, HasSubstr("a request may read each element once"));
  }
  EXPECT_EQ(server.allocated, 0U);
  Part first_half = half;
  first_half.first = 0;
  Part other = all;
  other.table = 1;
  EXPECT_EQ(read({half, first_half, other, keys}).type, MessageType::kReply);
}

TEST(SchemaText, OfDepthOrSizeIsRefusedBeforeItIsParsed) {
  OneServer server({});
  const auto join = [&](std::string text) {
    return server.ask({.type = MessageType::kJoin, .shard = {0, 1}, .schema = std::move(text)});
  };
  const Message deep = join(std::string(15'000'000, '['));
  EXPECT_EQ(deep.error, ErrorCode::kData);
  EXPECT_THAT(deep.reason, HasSubstr("at most 6 arrays and objects inside each other"));
  std::string wide = "[";
  for (int i = 0; i < 5'000'000; ++i) wide += "0,";
  EXPECT_THAT(join(wide + "0]").reason, HasSubstr("values is wanted, got more at byte"));
  EXPECT_THAT(join(std::string(65 << 20, ' ')).reason, HasSubstr("67108864 bytes is wanted"));
}

TEST(JsonLimits, CountNothingInsideTexts) {
  const JsonLimits limits{.bytes = 100, .depth = 2, .values = 6};
  EXPECT_NO_THROW(check_json_limits(R"({"a[[[[": "{,,:,,\"[[", "b": [1]})", limits, "x"));
  EXPECT_THROW(check_json_limits("[[[", limits, "x"), DataError);
  EXPECT_THROW(check_json_limits("[1,2,3,4,5,6,7]", limits, "x"), DataError);
  EXPECT_NO_THROW(check_json_limits("[[]]", limits, "x"));
}

class NonFinite : public testing::TestWithParam<double> {};

TEST_P(NonFinite, NumbersAreRefusedAndChangeNothing) {
  OneServer server({});
  const ModelSchema model{.dense = {{"w", 100}, {"d", 10, DType::kF64}},
                          .sparse = {{.name = "t", .width = 4}},
                          .consistency = {.mode = Mode::kAsynchronous, .workers = 1}};
  server.join(model);
  std::vector<float> w(100);
  std::vector<double> d(10);
  const auto all = [&](PartKind kind) {
    return std::vector<Part>{
        {.kind = kind, .count = 100, .payload = std::as_bytes(std::span(w))},
        {.table = 1, .kind = kind, .count = 10, .payload = std::as_bytes(std::span(d))}};
  };
  w[99] = static_cast<float>(GetParam());
  EXPECT_THAT(
      server.ask({.type = MessageType::kStore, .parts = all(PartKind::kValues)}).reason,
      testing::ContainsRegex("^w: a table must have finite values, got .* in element 99 of 100"));
  w[99] = 0;
  EXPECT_EQ(server.ask({.type = MessageType::kStore, .parts = all(PartKind::kValues)}).type,
            MessageType::kReply);
  d[3] = GetParam();
  w[0] = 1;
  EXPECT_THAT(
      server.ask({.type = MessageType::kPush, .lr = 1, .parts = all(PartKind::kGradient)}).reason,
      testing::ContainsRegex("^d: a gradient must have finite values.* element 3 of 10"));
  struct {
    std::uint64_t keys[2] = {5, 6};
    float gradients[8] = {0, 0, 0, 0, 0, 1, 0, 0};
  } rows;
  rows.gradients[6] = static_cast<float>(GetParam());
  const Part part{.table = 2,
                  .kind = PartKind::kRowGradients,
                  .count = 2,
                  .payload = std::as_bytes(std::span(&rows, 1))};
  EXPECT_THAT(server.ask({.type = MessageType::kPush, .lr = 1, .parts = {part}}).reason,
              testing::ContainsRegex("^t: a gradient must have finite.* element 6 of 8"));
  const Message reply = server.ask({.type = MessageType::kPull});
  EXPECT_EQ(reply.version, 0);
}

INSTANTIATE_TEST_SUITE_P(Values, NonFinite,
                         testing::Values(std::numeric_limits<double>::quiet_NaN(),
                                         std::numeric_limits<double>::infinity(),
                                         -std::numeric_limits<double>::infinity()),
                         [](const auto& info) {
                           return std::isnan(info.param) ? "Nan"
                                  : info.param > 0       ? "Infinity"
                                                         : "MinusInfinity";
                         });

const ModelSchema kAsynchronous{.dense = {},
                                .consistency = {.mode = Mode::kAsynchronous, .workers = 2}};

TEST(SnapshotHold, TellsNobodyTheIncarnationOfAWorker) {
  OneServer server({});
  constexpr std::uint64_t kSecret = 0x1234567890abcdef;
  EXPECT_EQ(server
                .ask({.type = MessageType::kJoin,
                      .incarnation = kSecret,
                      .shard = {0, 1},
                      .schema = to_json(kAsynchronous)})
                .type,
            MessageType::kReply);
  const Message held = server.ask({.type = MessageType::kSnapshot,
                                   .worker = server::kObserver,
                                   .incarnation = 77,
                                   .snapshot = server::SnapshotAction::kPause});
  ASSERT_TRUE(held.progress);
  ASSERT_EQ(held.progress->workers.size(), 2U);
  EXPECT_NE(held.progress->workers[0].incarnation, 0U);
  EXPECT_NE(held.progress->workers[0].incarnation, kSecret);
  // What it says is of no use as an incarnation.
  EXPECT_EQ(server
                .ask({.type = MessageType::kPush,
                      .worker = 0,
                      .incarnation = held.progress->workers[0].incarnation})
                .error,
            ErrorCode::kUsage);
}

TEST(SnapshotHold, IsRationed) {
  OneServer server({});
  server.join(kAsynchronous);
  const auto ask = [&](server::SnapshotAction action, Server::Time now) {
    return server.ask({.type = MessageType::kSnapshot,
                       .worker = server::kObserver,
                       .incarnation = 77,
                       .snapshot = action},
                      now);
  };
  // One after the other, 2 s each: in a minute they get a burst of 30 s, then half of the time.
  Server::Time now = 1000s;
  Server::Time held{};
  int refused = 0;
  while (now < 1600s) {
    const Message reply = ask(server::SnapshotAction::kPause, now);
    if (reply.type == MessageType::kError) {
      EXPECT_THAT(reply.reason, HasSubstr("snapshots have delayed training for too long"));
      ++refused;
      now += 1s;
      continue;
    }
    now += 2s;
    held += 2s;
    EXPECT_EQ(ask(server::SnapshotAction::kResume, now).type, MessageType::kReply);
  }
  EXPECT_GT(refused, 100);
  EXPECT_GE(held, 250s);
  EXPECT_LE(held, 350s);
}

TEST(SnapshotHold, EndsAlthoughItsProgramReadsOn) {
  OneServer server({});
  server.join(kAsynchronous);
  Server::Time now = 1000s;
  server.ask({.type = MessageType::kSnapshot,
              .worker = server::kObserver,
              .incarnation = 77,
              .snapshot = server::SnapshotAction::kPause},
             now);
  bool has_ended = false;
  for (int i = 0; i < 2000 && !has_ended; ++i) {
    now += 1s;
    server.ask({.type = MessageType::kFetch, .worker = server::kObserver, .incarnation = 77}, now);
    has_ended = server
                    .ask({.type = MessageType::kSnapshot,
                          .worker = server::kObserver,
                          .incarnation = 88,
                          .snapshot = server::SnapshotAction::kResume},
                         now)
                    .reason.find("too long") != std::string::npos;
  }
  EXPECT_TRUE(has_ended);
  EXPECT_LE(now, 1700s);
}

}  // namespace
}  // namespace trireme::test
