#include "trireme/server/message.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <string_view>
#include <utility>

#include "trireme/base/error.h"
#include "trireme/formats/printable.h"

namespace trireme::server {

namespace {

constexpr std::uint32_t kMagic = 0x50525254;  // "TRRP"

enum Flag : std::uint8_t { kHasAllValues = 1, kIsDegraded = 2, kHasProgress = 4 };
constexpr std::uint8_t kAllFlags = kHasAllValues | kIsDegraded | kHasProgress;

struct Header {
  std::uint32_t magic = kMagic;
  std::uint16_t protocol = kProtocol;
  std::uint8_t type = 0;
  std::uint8_t error = 0;
  std::uint32_t worker = 0;
  std::uint32_t parts = 0;
  std::uint64_t incarnation = 0;
  std::uint64_t sequence = 0;
  std::int64_t clock = 0;
  std::int64_t version = 0;
  std::uint64_t entry = 0;
  double lr = 0;
  double scale = 0;
  double divisor = 0;
  std::int32_t shard = 0;
  std::int32_t shards = 0;
  std::uint8_t snapshot = 0;
  std::uint8_t text = 0;  // which: 0 none, i text_fields[i - 1]
  std::uint8_t flags = 0;
  std::uint8_t zero = 0;
  std::uint32_t workers = 0;  // of the progress
  std::uint64_t text_bytes = 0;
};
static_assert(sizeof(Header) == 104);

struct PartHeader {
  std::uint32_t table = 0;
  std::uint8_t kind = 0;
  std::uint8_t array = 0;
  std::uint8_t empty = 0;
  std::uint8_t zero = 0;
  std::int64_t first = 0;
  std::int64_t count = 0;
  std::uint64_t bytes = 0;
};
static_assert(sizeof(PartHeader) == 32);
static_assert(sizeof(VersionVector::Worker) == 16);

constexpr std::array<std::string Message::*, 4> kTextFields = {
    &Message::schema, &Message::reason, &Message::waiting_for, &Message::file};

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

template <class T>
void append(const T& value, std::string& bytes) {
  bytes.append(reinterpret_cast<const char*>(&value), sizeof value);
}

// Hands out the payloads in `bodies` one after another.
class PayloadReader {
 public:
  explicit PayloadReader(std::span<const std::span<const std::byte>> bodies) : left_(bodies) {}

  std::span<const std::byte> next(std::uint64_t bytes) {
    if (bytes == 0) return {};
    while (!left_.empty() && at_ == left_.front().size()) {
      left_ = left_.subspan(1);
      at_ = 0;
    }
    require(!left_.empty(), "a payload is missing");
    const std::span<const std::byte> body = left_.front();
    require(bytes <= body.size() - at_, "a payload is longer than its body");
    const auto payload = body.subspan(at_, bytes);
    at_ = std::min(at_ + padded(bytes), body.size());
    return payload;
  }

  bool is_at_end() const {
    return left_.empty() || (left_.size() == 1 && at_ == left_.front().size());
  }

 private:
  std::span<const std::span<const std::byte>> left_;
  std::size_t at_ = 0;
};

Part decode_part(const PartHeader& header, PayloadReader& payloads) {
  require(header.kind >= static_cast<std::uint8_t>(PartKind::kGradient) &&
              header.kind <= static_cast<std::uint8_t>(PartKind::kReadKeys) && header.zero == 0 &&
              header.empty <= 1,
          "a part of unknown kind");
  require(header.first >= 0 && header.count >= 0 && header.first <= INT64_MAX - header.count,
          "a part with an invalid range");
  return {.table = header.table,
          .kind = static_cast<PartKind>(header.kind),
          .array = header.array,
          .empty = header.empty == 1,
          .first = header.first,
          .count = header.count,
          .payload = payloads.next(header.bytes)};
}

VersionVector decode_progress(std::size_t workers, std::span<const std::byte>& bytes) {
  VersionVector progress{.version = take<std::int64_t>(bytes), .workers = {}};
  progress.workers.reserve(workers);
  for (std::size_t i = 0; i < workers; ++i) {
    progress.workers.push_back(take<VersionVector::Worker>(bytes));
  }
  return progress;
}

// Bytes of the progress behind the parts.
std::size_t progress_bytes(const Header& header) {
  if ((header.flags & kHasProgress) == 0) return 0;
  return sizeof(std::int64_t) + header.workers * sizeof(VersionVector::Worker);
}

void check(const Header& header) {
  require(header.type >= static_cast<std::uint8_t>(MessageType::kJoin) &&
              header.type <= static_cast<std::uint8_t>(MessageType::kSuperseded),
          "of unknown type");
  require(header.error <= static_cast<std::uint8_t>(ErrorCode::kStandby) &&
              header.snapshot <= static_cast<std::uint8_t>(SnapshotAction::kResume) &&
              header.text <= kTextFields.size() && (header.flags & ~kAllFlags) == 0 &&
              header.zero == 0,
          "a field with an unknown value");
  require((header.text == 0) == (header.text_bytes == 0), "a text without bytes or without a kind");
  require((header.flags & kHasProgress) != 0 || header.workers == 0, "workers without progress");
  require(std::isfinite(header.lr) && std::isfinite(header.scale) &&
              std::isfinite(header.divisor) && header.divisor >= 0,
          "a learning rate, scale or divisor that is not a valid number");
}

Message fields_of(const Header& header) {
  return {.type = static_cast<MessageType>(header.type),
          .worker = header.worker,
          .incarnation = header.incarnation,
          .sequence = header.sequence,
          .clock = header.clock,
          .version = header.version,
          .entry = header.entry,
          .lr = header.lr,
          .scale = header.scale,
          .divisor = header.divisor,
          .shard = {header.shard, header.shards},
          .error = static_cast<ErrorCode>(header.error),
          .has_all_values = (header.flags & kHasAllValues) != 0,
          .is_degraded = (header.flags & kIsDegraded) != 0,
          .snapshot = static_cast<SnapshotAction>(header.snapshot)};
}

Header header_of(const Message& message) {
  Header header{.type = static_cast<std::uint8_t>(message.type),
                .error = static_cast<std::uint8_t>(message.error),
                .worker = message.worker,
                .parts = static_cast<std::uint32_t>(message.parts.size()),
                .incarnation = message.incarnation,
                .sequence = message.sequence,
                .clock = message.clock,
                .version = message.version,
                .entry = message.entry,
                .lr = message.lr,
                .scale = message.scale,
                .divisor = message.divisor,
                .shard = message.shard.index,
                .shards = message.shard.count,
                .snapshot = static_cast<std::uint8_t>(message.snapshot)};
  if (message.has_all_values) header.flags |= kHasAllValues;
  if (message.is_degraded) header.flags |= kIsDegraded;
  if (message.progress) {
    header.flags |= kHasProgress;
    header.workers = static_cast<std::uint32_t>(message.progress->workers.size());
  }
  for (std::size_t i = 0; i < kTextFields.size(); ++i) {
    const std::string& text = message.*kTextFields[i];
    if (text.empty()) continue;
    header.text = static_cast<std::uint8_t>(i + 1);
    header.text_bytes = text.size();
  }
  return header;
}

}  // namespace

std::size_t Message::payload_bytes() const {
  std::size_t bytes = 0;
  for (const Part& part : parts) bytes += part.payload.size();
  return bytes;
}

Message reply_to(const Message& request, std::int64_t version) {
  return {.type = MessageType::kReply,
          .worker = request.worker,
          .sequence = request.sequence,
          .version = version};
}

Message error_reply(const Message& request, ErrorCode error, std::string reason) {
  return {.type = MessageType::kError,
          .worker = request.worker,
          .sequence = request.sequence,
          .error = error,
          .reason = std::move(reason)};
}

std::string encode_header(const Message& message) {
  const Header header = header_of(message);
  std::string bytes;
  bytes.reserve(sizeof header + message.parts.size() * sizeof(PartHeader) + progress_bytes(header) +
                header.text_bytes);
  append(header, bytes);
  for (const Part& part : message.parts) {
    append(PartHeader{.table = part.table,
                      .kind = static_cast<std::uint8_t>(part.kind),
                      .array = part.array,
                      .empty = part.empty,
                      .first = part.first,
                      .count = part.count,
                      .bytes = part.payload.size()},
           bytes);
  }
  if (message.progress) {
    append(message.progress->version, bytes);
    for (const VersionVector::Worker& worker : message.progress->workers) append(worker, bytes);
  }
  if (header.text > 0) bytes += message.*kTextFields[header.text - 1];
  return bytes;
}

bool is_of_another_protocol(std::span<const std::byte> header) {
  if (header.size() < sizeof(std::uint32_t) + sizeof(std::uint16_t)) return false;
  return take<std::uint32_t>(header) == kMagic && take<std::uint16_t>(header) != kProtocol;
}

std::uint64_t sequence_in(std::span<const std::byte> header) {
  return header.size() < sizeof(Header) ? 0 : take<Header>(header).sequence;
}

Message decode(std::span<const std::byte> bytes,
               std::span<const std::span<const std::byte>> bodies) {
  if (is_of_another_protocol(bytes)) {
    auto copy = bytes.subspan(sizeof kMagic);
    throw DataError(fmt::format(
        "message: protocol {} is wanted, got {}; use one version of trireme at both ends",
        kProtocol, take<std::uint16_t>(copy)));
  }
  require(bytes.size() >= sizeof(Header), "shorter than a header");
  const auto header = take<Header>(bytes);
  require(header.magic == kMagic, "not a message of trireme");
  check(header);
  const std::size_t behind_parts = progress_bytes(header);
  require(header.parts <= bytes.size() / sizeof(PartHeader) && behind_parts <= bytes.size() &&
              header.text_bytes <= bytes.size() &&
              header.parts * sizeof(PartHeader) + behind_parts + header.text_bytes == bytes.size(),
          "parts, progress and text are not as long as the header says");
  Message message = fields_of(header);
  PayloadReader payloads(bodies);
  message.parts.reserve(header.parts);
  for (std::uint32_t i = 0; i < header.parts; ++i) {
    message.parts.push_back(decode_part(take<PartHeader>(bytes), payloads));
  }
  require(payloads.is_at_end(), "more bytes than its parts have");
  if (behind_parts > 0) message.progress = decode_progress(header.workers, bytes);
  if (header.text > 0) {
    const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    std::string Message::*const field = kTextFields[header.text - 1];
    // All but the schema is shown to people.
    message.*field =
        field == &Message::schema ? std::string(text) : without_control_characters(text);
  }
  return message;
}

}  // namespace trireme::server
