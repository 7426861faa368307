#include "trireme/launch/rendezvous/requests.h"

#include <charconv>

namespace trireme::rendezvous {

namespace {

constexpr std::size_t kHeaderBytes = 9;

void append_length(std::size_t length, std::string& to) {
  for (int i = 0; i < 4; ++i) to += static_cast<char>(length >> (8 * i) & 0xff);
}

std::size_t length_at(std::string_view bytes, std::size_t at) {
  std::size_t length = 0;
  for (std::size_t i = 0; i < 4; ++i) {
    length |= std::size_t{static_cast<unsigned char>(bytes[at + i])} << (8 * i);
  }
  return length;
}

std::optional<std::int64_t> number_of(std::string_view text) {
  std::int64_t number = 0;
  const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || stop != text.data() + text.size()) return std::nullopt;
  return number;
}

}  // namespace

std::string encode(const StoreRequest& request) {
  std::string bytes;
  bytes.reserve(kHeaderBytes + request.key.size() + request.expected.size() + request.value.size());
  bytes += static_cast<char>(request.kind);
  append_length(request.key.size(), bytes);
  append_length(request.expected.size(), bytes);
  return bytes += request.key + request.expected + request.value;
}

std::optional<StoreRequest> decode_request(std::string_view bytes) {
  if (bytes.size() < kHeaderBytes) return std::nullopt;
  const auto kind = static_cast<std::uint8_t>(bytes[0]);
  if (kind < static_cast<std::uint8_t>(RequestKind::kRead) ||
      kind > static_cast<std::uint8_t>(RequestKind::kCount)) {
    return std::nullopt;
  }
  const std::size_t key = length_at(bytes, 1);
  const std::size_t expected = length_at(bytes, 5);
  if (key > bytes.size() - kHeaderBytes || expected > bytes.size() - kHeaderBytes - key) {
    return std::nullopt;
  }
  return StoreRequest{.kind = static_cast<RequestKind>(kind),
                      .key = std::string(bytes.substr(kHeaderBytes, key)),
                      .expected = std::string(bytes.substr(kHeaderBytes + key, expected)),
                      .value = std::string(bytes.substr(kHeaderBytes + key + expected))};
}

std::string encode_reply(const std::optional<std::string>& value) {
  return value ? "\1" + *value : std::string(1, '\0');
}

KeyValueStore::Result KeyValueStore::write(const std::string& key, const std::string& value) {
  const auto found = values_.find(key);
  const std::size_t before = found == values_.end() ? 0 : found->second.size();
  const std::size_t entry = found == values_.end() ? key.size() + kEntryBytes : 0;
  if (bytes_ - before + entry + value.size() > max_bytes_) return {.is_refused = true};
  bytes_ += entry + value.size() - before;
  values_[key] = value;
  return {.value = value};
}

KeyValueStore::Result KeyValueStore::apply(const StoreRequest& request) {
  const auto found = values_.find(request.key);
  const bool is_there = found != values_.end();
  switch (request.kind) {
    case RequestKind::kRead:
      return {.value = is_there ? std::optional(found->second) : std::nullopt};
    case RequestKind::kWrite:
      return write(request.key, request.value);
    case RequestKind::kAdd: {
      const auto before = is_there ? number_of(found->second) : std::optional<std::int64_t>(0);
      const auto more = number_of(request.value);
      std::int64_t sum = 0;
      if (!before || !more || __builtin_add_overflow(*before, *more, &sum)) {
        return {.is_refused = true};
      }
      return write(request.key, std::to_string(sum));
    }
    case RequestKind::kCompareSet: {
      const bool matches = is_there ? found->second == request.expected : request.expected.empty();
      if (matches) return write(request.key, request.value);
      return {.value = is_there ? found->second : request.expected};
    }
    case RequestKind::kErase: {
      if (!is_there) return {};
      Result erased{.value = found->second};
      bytes_ -= request.key.size() + found->second.size() + kEntryBytes;
      values_.erase(found);
      return erased;
    }
    case RequestKind::kCount:
      return {.value = std::to_string(values_.size())};
  }
  return {.is_refused = true};
}

}  // namespace trireme::rendezvous
