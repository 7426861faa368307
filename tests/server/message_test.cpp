#include "trireme/server/message.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <random>

#include "tests/comm/message_of.h"
#include "trireme/base/error.h"

namespace trireme::test {
namespace {

using server::Message;
using server::MessageType;
using server::Part;
using server::PartKind;
using testing::HasSubstr;

/// A message as it goes over the wire: payloads padded, in one body or in several.
struct Wire {
  std::string head;
  std::vector<std::vector<std::uint64_t>> memory;
  std::vector<std::span<const std::byte>> bodies;

  Message decode() const { return server::decode(std::as_bytes(std::span(head)), bodies); }
};

Wire wire_of(const Message& message, std::mt19937& random) {
  Wire wire{.head = encode_header(message), .memory = {}, .bodies = {}};
  for (const Part& part : message.parts) {
    if (part.payload.empty()) continue;
    const std::size_t words = (part.payload.size() + 7) / 8;
    if (wire.memory.empty() || random() % 2 == 0) wire.memory.emplace_back();
    auto& body = wire.memory.back();
    body.resize(body.size() + words);
    std::memcpy(body.data() + body.size() - words, part.payload.data(), part.payload.size());
  }
  for (const auto& body : wire.memory) wire.bodies.push_back(std::as_bytes(std::span(body)));
  return wire;
}

Message drawn(std::mt19937& random, std::vector<std::string>& payloads) {
  const auto any = [&] { return static_cast<std::int64_t>(random()) << 20; };
  Message message{
      .type = static_cast<MessageType>(1 + random() % 15),
      .worker = static_cast<std::uint32_t>(random()),
      .incarnation = static_cast<std::uint64_t>(any()),
      .sequence = static_cast<std::uint64_t>(any()),
      .clock = any(),
      .version = any(),
      .entry = static_cast<std::uint64_t>(any()),
      .lr = 1.0 / (1 + random() % 100),
      .scale = -3.5,
      .divisor = static_cast<double>(random() % 100) / 3,
      .shard = {static_cast<std::int32_t>(random()), static_cast<std::int32_t>(random())},
      .error = static_cast<server::ErrorCode>(random() % 5),
      .has_all_values = random() % 2 == 0,
      .is_degraded = random() % 2 == 0,
      .snapshot = static_cast<server::SnapshotAction>(random() % 4)};
  if (random() % 2 == 0) {
    message.progress.emplace().version = any();
    message.progress->workers.resize(random() % 4);
    for (auto& worker : message.progress->workers) worker = {random(), random()};
  }
  payloads.resize(random() % 6);
  for (std::string& payload : payloads) {
    payload.resize(random() % 40);
    for (char& byte : payload) byte = static_cast<char>(random());
    message.parts.push_back({.table = static_cast<std::uint32_t>(random()),
                             .kind = static_cast<PartKind>(1 + random() % 8),
                             .array = static_cast<std::uint8_t>(random()),
                             .empty = random() % 2 == 0,
                             .first = any(),
                             .count = any(),
                             .payload = std::as_bytes(std::span(payload))});
  }
  std::string* const texts[] = {&message.schema, &message.reason, &message.waiting_for,
                                &message.file};
  texts[random() % 4]->assign(random() % 30, 'x');
  return message;
}

void expect_same(const Message& a, const Message& b) {
  EXPECT_EQ(a.type, b.type);
  EXPECT_EQ(a.worker, b.worker);
  EXPECT_EQ(a.incarnation, b.incarnation);
  EXPECT_EQ(a.sequence, b.sequence);
  EXPECT_EQ(a.clock, b.clock);
  EXPECT_EQ(a.version, b.version);
  EXPECT_EQ(a.entry, b.entry);
  EXPECT_EQ(a.lr, b.lr);
  EXPECT_EQ(a.scale, b.scale);
  EXPECT_EQ(a.divisor, b.divisor);
  EXPECT_EQ(a.shard, b.shard);
  EXPECT_EQ(a.error, b.error);
  EXPECT_EQ(a.has_all_values, b.has_all_values);
  EXPECT_EQ(a.is_degraded, b.is_degraded);
  EXPECT_EQ(a.snapshot, b.snapshot);
  EXPECT_EQ(a.progress, b.progress);
  EXPECT_EQ(a.schema, b.schema);
  EXPECT_EQ(a.reason, b.reason);
  EXPECT_EQ(a.waiting_for, b.waiting_for);
  EXPECT_EQ(a.file, b.file);
  ASSERT_EQ(a.parts.size(), b.parts.size());
  for (std::size_t i = 0; i < a.parts.size(); ++i) {
    EXPECT_EQ(a.parts[i].table, b.parts[i].table);
    EXPECT_EQ(a.parts[i].kind, b.parts[i].kind);
    EXPECT_EQ(a.parts[i].array, b.parts[i].array);
    EXPECT_EQ(a.parts[i].empty, b.parts[i].empty);
    EXPECT_EQ(a.parts[i].first, b.parts[i].first);
    EXPECT_EQ(a.parts[i].count, b.parts[i].count);
    EXPECT_TRUE(std::ranges::equal(a.parts[i].payload, b.parts[i].payload)) << i;
  }
}

TEST(ServerMessage, IsReadBackAsItWasWritten) {
  std::mt19937 random(1);
  for (int i = 0; i < 2000; ++i) {
    std::vector<std::string> payloads;
    const Message message = drawn(random, payloads);
    const Wire wire = wire_of(message, random);
    expect_same(wire.decode(), message);
    EXPECT_EQ(server::sequence_in(std::as_bytes(std::span(wire.head))), message.sequence);
  }
}

TEST(ServerMessage, NeedsNoPaddingAtTheEndOfABody) {
  const std::string payload = "thirteen byte";
  const Message message{.parts = {{.payload = std::as_bytes(std::span(payload))}}};
  const std::string header = encode_header(message);
  const std::vector<std::span<const std::byte>> body = {message.parts[0].payload};
  expect_same(server::decode(std::as_bytes(std::span(header)), body), message);
}

TEST(ServerMessage, IsRejectedIfBytesAreMissingOrAdded) {
  std::mt19937 random(2);
  for (int i = 0; i < 300; ++i) {
    std::vector<std::string> payloads;
    const Message message = drawn(random, payloads);
    const Wire whole = wire_of(message, random);
    for (std::size_t cut = 0; cut < whole.head.size(); ++cut) {
      Wire wire = whole;
      wire.head.resize(cut);
      EXPECT_THROW(wire.decode(), DataError) << cut;
    }
    Wire longer = whole;
    longer.head += 'x';
    EXPECT_THROW(longer.decode(), DataError);
    if (whole.bodies.empty()) continue;
    Wire missing = whole;
    missing.bodies.pop_back();
    EXPECT_THROW(missing.decode(), DataError);
    Wire twice = whole;
    twice.bodies.push_back(twice.bodies.back());
    EXPECT_THROW(twice.decode(), DataError);
    Wire shorter = whole;
    // Cuts off the whole last word, because padding may be missing.
    shorter.bodies.back() = shorter.bodies.back().first(shorter.bodies.back().size() - 8);
    EXPECT_THROW(shorter.decode(), DataError);
  }
}

// After a byte is flipped, payloads still lie inside the received message.
TEST(ServerMessage, WithAFlippedBitIsRejectedOrHarmless) {
  std::mt19937 random(3);
  for (int i = 0; i < 100; ++i) {
    std::vector<std::string> payloads;
    const Wire whole = wire_of(drawn(random, payloads), random);
    for (std::size_t at = 0; at < whole.head.size(); ++at) {
      Wire wire = whole;
      wire.head[at] = static_cast<char>(wire.head[at] ^ (1 << (random() % 8)));
      try {
        const Message message = wire.decode();
        for (const Part& part : message.parts) {
          if (part.payload.empty()) continue;
          EXPECT_TRUE(std::ranges::any_of(wire.bodies, [&](const auto& body) {
            return part.payload.data() >= body.data() &&
                   part.payload.data() + part.payload.size() <= body.data() + body.size();
          }));
          EXPECT_GE(part.first, 0);
          EXPECT_GE(part.count, 0);
        }
      } catch (const DataError&) {
      }
    }
  }
}

// The bytes of the example in docs/format/parameter-server.md.
TEST(ServerMessage, HasTheBytesOfTheFormatsExample) {
  const std::vector<float> gradient = {1, -2, 0.5};
  const Message push{
      .type = MessageType::kPush,
      .worker = 1,
      .incarnation = 7,
      .sequence = 3,
      .lr = 0.25,
      .divisor = 12,
      .parts = {
          {.kind = PartKind::kGradient, .count = 3, .payload = std::as_bytes(std::span(gradient))},
          {.kind = PartKind::kReadRange, .count = 3}}};
  std::string hex;
  for (const char byte : encode_header(push)) {
    hex += fmt::format("{:02x}", static_cast<unsigned char>(byte));
  }
  EXPECT_EQ(hex,
            "54525250020003000100000002000000"
            "07000000000000000300000000000000"
            "00000000000000000000000000000000"
            "0000000000000000000000000000d03f"
            "000000000000f03f0000000000002840"
            "00000000000000000000000000000000"
            "0000000000000000"
            "00000000010000000000000000000000"
            "03000000000000000c00000000000000"
            "00000000060000000000000000000000"
            "03000000000000000000000000000000");
}

TEST(ServerMessage, HasTextsThatCannotControlATerminal) {
  const std::string hostile = "\x1b]0;owned\x07 \r\xc2\x9b";
  const auto read_back = [](const Message& message) {
    const std::string header = server::encode_header(message);
    return server::decode(std::as_bytes(std::span(header)), {});
  };
  const std::string shown = "\\x1b]0;owned\\x07 \\x0d\\xc2\\x9b";
  EXPECT_EQ(read_back({.type = MessageType::kError, .reason = hostile}).reason, shown);
  EXPECT_EQ(read_back({.type = MessageType::kReply, .waiting_for = hostile}).waiting_for, shown);
  EXPECT_EQ(read_back({.type = MessageType::kReply, .file = hostile}).file, shown);
  // The schema is parsed and not shown.
  EXPECT_EQ(read_back({.type = MessageType::kReply, .schema = hostile}).schema, hostile);
}

TEST(ServerMessage, OfAnotherVersionIsRejectedByName) {
  std::string head = server::encode_header({.type = MessageType::kPing});
  EXPECT_FALSE(server::is_of_another_protocol(std::as_bytes(std::span(head))));
  head[4] = 7;
  EXPECT_TRUE(server::is_of_another_protocol(std::as_bytes(std::span(head))));
  EXPECT_THAT(message_of<DataError>([&] { server::decode(std::as_bytes(std::span(head)), {}); }),
              HasSubstr("protocol 2 is wanted, got 7"));
  head[0] = 'x';
  EXPECT_FALSE(server::is_of_another_protocol(std::as_bytes(std::span(head))));
}

}  // namespace
}  // namespace trireme::test
