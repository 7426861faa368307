#include "trireme/server/message.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "trireme/base/error.h"

namespace trireme::server {

namespace {

constexpr std::uint32_t kMagic = 0x50525254;  // "TRRP"

struct Head {
  std::uint32_t magic = kMagic;
  std::uint16_t protocol = kProtocol;
  std::uint8_t verb = 0;
  std::uint8_t zero = 0;
  std::uint32_t worker = 0;
  std::uint32_t parts = 0;
  std::uint64_t life = 0;
  std::uint64_t sequence = 0;
  std::int64_t clock = 0;
  double lr = 0;
  double scale = 0;
  std::uint64_t text_bytes = 0;
};
static_assert(sizeof(Head) == 64);

struct PartHead {
  std::uint32_t table = 0;
  std::uint8_t form = 0;
  std::uint8_t slot = 0;
  std::uint8_t empty = 0;
  std::uint8_t zero = 0;
  std::int64_t first = 0;
  std::int64_t count = 0;
  std::uint64_t bytes = 0;
};
static_assert(sizeof(PartHead) == 32);

void require(bool holds, const char* what) {
  if (!holds) throw DataError(fmt::format("message: {}", what));
}

template <class T>
T take(std::span<const std::byte>& from) {
  T value;
  std::memcpy(&value, from.data(), sizeof value);
  from = from.subspan(sizeof value);
  return value;
}

// Hands out the payloads of `bodies` one after another.
class Bodies {
 public:
  explicit Bodies(std::span<const std::span<const std::byte>> bodies) : left_(bodies) {}

  std::span<const std::byte> next(std::uint64_t bytes) {
    if (bytes == 0) return {};
    while (!left_.empty() && at_ == left_.front().size()) {
      left_ = left_.subspan(1);
      at_ = 0;
    }
    require(!left_.empty(), "a payload is missing");
    const std::span<const std::byte> body = left_.front();
    require(bytes <= body.size() - at_, "a payload is longer than what came");
    const auto payload = body.subspan(at_, bytes);
    at_ = std::min(at_ + padded(bytes), body.size());
    return payload;
  }

  bool all_taken() const {
    return left_.empty() || (left_.size() == 1 && at_ == left_.front().size());
  }

 private:
  std::span<const std::span<const std::byte>> left_;
  std::size_t at_ = 0;
};

Part part_of(const PartHead& head, Bodies& bodies) {
  require(head.form >= static_cast<std::uint8_t>(Form::kGradient) &&
              head.form <= static_cast<std::uint8_t>(Form::kAllKeys) && head.zero == 0 &&
              head.empty <= 1,
          "a part has no form that is known");
  require(head.first >= 0 && head.count >= 0 && head.first <= INT64_MAX - head.count,
          "a part has a range that is none");
  return {.table = head.table,
          .form = static_cast<Form>(head.form),
          .slot = head.slot,
          .empty = head.empty == 1,
          .first = head.first,
          .count = head.count,
          .payload = bodies.next(head.bytes)};
}

}  // namespace

std::size_t Message::payload_bytes() const {
  std::size_t bytes = 0;
  for (const Part& part : parts) bytes += part.payload.size();
  return bytes;
}

Message refusal_of(const Message& request, std::uint8_t fault, std::string why) {
  return {.verb = Verb::kRefusal,
          .worker = request.worker,
          .sequence = request.sequence,
          .clock = fault,
          .text = std::move(why)};
}

std::string encode_head(const Message& message) {
  const Head head{.verb = static_cast<std::uint8_t>(message.verb),
                  .worker = message.worker,
                  .parts = static_cast<std::uint32_t>(message.parts.size()),
                  .life = message.life,
                  .sequence = message.sequence,
                  .clock = message.clock,
                  .lr = message.lr,
                  .scale = message.scale,
                  .text_bytes = message.text.size()};
  std::string bytes;
  bytes.reserve(sizeof head + message.parts.size() * sizeof(PartHead) + message.text.size());
  bytes.append(reinterpret_cast<const char*>(&head), sizeof head);
  for (const Part& part : message.parts) {
    const PartHead part_head{.table = part.table,
                             .form = static_cast<std::uint8_t>(part.form),
                             .slot = part.slot,
                             .empty = part.empty,
                             .first = part.first,
                             .count = part.count,
                             .bytes = part.payload.size()};
    bytes.append(reinterpret_cast<const char*>(&part_head), sizeof part_head);
  }
  return bytes + message.text;
}

bool is_of_another_protocol(std::span<const std::byte> head) {
  if (head.size() < sizeof(std::uint32_t) + sizeof(std::uint16_t)) return false;
  return take<std::uint32_t>(head) == kMagic && take<std::uint16_t>(head) != kProtocol;
}

std::uint64_t sequence_in(std::span<const std::byte> head) {
  return head.size() < sizeof(Head) ? 0 : take<Head>(head).sequence;
}

Message decode(std::span<const std::byte> bytes,
               std::span<const std::span<const std::byte>> bodies) {
  require(bytes.size() >= sizeof(Head), "shorter than a head");
  const auto head = take<Head>(bytes);
  require(head.magic == kMagic, "not one of trireme's");
  if (head.protocol != kProtocol) {
    throw DataError(fmt::format(
        "message: protocol {} is wanted, got {}; use one version of trireme at both ends",
        kProtocol, head.protocol));
  }
  require(head.verb >= static_cast<std::uint8_t>(Verb::kJoin) &&
              head.verb <= static_cast<std::uint8_t>(Verb::kAlone) && head.zero == 0,
          "no verb that is known");
  require(head.parts <= bytes.size() / sizeof(PartHead) &&
              head.text_bytes == bytes.size() - head.parts * sizeof(PartHead),
          "parts and text are not as long as the head");
  require(std::isfinite(head.lr) && std::isfinite(head.scale), "a rate that is no number");
  Message message{.verb = static_cast<Verb>(head.verb),
                  .worker = head.worker,
                  .life = head.life,
                  .sequence = head.sequence,
                  .clock = head.clock,
                  .lr = head.lr,
                  .scale = head.scale};
  Bodies payloads(bodies);
  message.parts.reserve(head.parts);
  for (std::uint32_t i = 0; i < head.parts; ++i) {
    message.parts.push_back(part_of(take<PartHead>(bytes), payloads));
  }
  require(payloads.all_taken(), "more bytes than its parts");
  message.text.assign(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  return message;
}

}  // namespace trireme::server
