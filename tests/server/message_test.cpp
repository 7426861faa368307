#include "trireme/server/message.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <random>

#include "tests/comm/message_of.h"
#include "trireme/base/error.h"

namespace trireme::test {
namespace {

using server::Form;
using server::Message;
using server::Part;
using server::Verb;
using testing::HasSubstr;

/// A message as it goes over the wire: payloads padded, in one body or in several.
struct Wire {
  std::string head;
  std::vector<std::vector<std::uint64_t>> memory;
  std::vector<std::span<const std::byte>> bodies;

  Message decode() const { return server::decode(std::as_bytes(std::span(head)), bodies); }
};

Wire wire_of(const Message& message, std::mt19937& random) {
  Wire wire{.head = encode_head(message), .memory = {}, .bodies = {}};
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
  Message message{.verb = static_cast<Verb>(1 + random() % 12),
                  .worker = static_cast<std::uint32_t>(random()),
                  .life = static_cast<std::uint64_t>(any()),
                  .sequence = static_cast<std::uint64_t>(any()),
                  .clock = any(),
                  .lr = 1.0 / (1 + random() % 100),
                  .scale = -3.5};
  payloads.resize(random() % 6);
  for (std::string& payload : payloads) {
    payload.resize(random() % 40);
    for (char& byte : payload) byte = static_cast<char>(random());
    message.parts.push_back({.table = static_cast<std::uint32_t>(random()),
                             .form = static_cast<Form>(1 + random() % 8),
                             .slot = static_cast<std::uint8_t>(random()),
                             .empty = random() % 2 == 0,
                             .first = any(),
                             .count = any(),
                             .payload = std::as_bytes(std::span(payload))});
  }
  message.text.assign(random() % 30, 'x');
  return message;
}

void expect_same(const Message& a, const Message& b) {
  EXPECT_EQ(a.verb, b.verb);
  EXPECT_EQ(a.worker, b.worker);
  EXPECT_EQ(a.life, b.life);
  EXPECT_EQ(a.sequence, b.sequence);
  EXPECT_EQ(a.clock, b.clock);
  EXPECT_EQ(a.lr, b.lr);
  EXPECT_EQ(a.scale, b.scale);
  EXPECT_EQ(a.text, b.text);
  ASSERT_EQ(a.parts.size(), b.parts.size());
  for (std::size_t i = 0; i < a.parts.size(); ++i) {
    EXPECT_EQ(a.parts[i].table, b.parts[i].table);
    EXPECT_EQ(a.parts[i].form, b.parts[i].form);
    EXPECT_EQ(a.parts[i].slot, b.parts[i].slot);
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
  const std::string head = encode_head(message);
  const std::vector<std::span<const std::byte>> body = {message.parts[0].payload};
  expect_same(server::decode(std::as_bytes(std::span(head)), body), message);
}

TEST(ServerMessage, IsRefusedIfAnythingIsCutOffOrAdded) {
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
    // By all of its last word: its padding may go.
    shorter.bodies.back() = shorter.bodies.back().first(shorter.bodies.back().size() - 8);
    EXPECT_THROW(shorter.decode(), DataError);
  }
}

// Whatever a flipped byte makes of it, payloads stay inside what came.
TEST(ServerMessage, WithAFlippedByteIsRefusedOrHarmless) {
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

TEST(ServerMessage, OfAnotherVersionSaysSo) {
  std::string head = server::encode_head({.verb = Verb::kPing});
  EXPECT_FALSE(server::is_of_another_protocol(std::as_bytes(std::span(head))));
  head[4] = 7;
  EXPECT_TRUE(server::is_of_another_protocol(std::as_bytes(std::span(head))));
  EXPECT_THAT(message_of<DataError>([&] { server::decode(std::as_bytes(std::span(head)), {}); }),
              HasSubstr("protocol 1 is wanted, got 7"));
  head[0] = 'x';
  EXPECT_FALSE(server::is_of_another_protocol(std::as_bytes(std::span(head))));
}

}  // namespace
}  // namespace trireme::test
