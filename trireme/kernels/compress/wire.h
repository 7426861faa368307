#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace trireme::compress {

static_assert(std::endian::native == std::endian::little, "payloads are little-endian");

/// Which codec made a payload, as written in its header.
enum class Codec : std::uint8_t { kNone, kBF16, kF16, kInt8, kTopK, kRandomK, kPowerSgd, kSign };

/// What every payload begins with.
struct Header {
  std::uint8_t codec = 0;
  std::uint8_t version = 1;
  std::uint16_t zero = 0;
  std::uint32_t parameter = 0;  ///< top_k, random_k: values that travel; power_sgd: rank
  std::uint64_t count = 0;      ///< values that come out
};
static_assert(sizeof(Header) == 16);

// At any address: payloads come out of the middle of messages.
template <class T>
T load(const std::byte* from) {
  T value;
  std::memcpy(&value, from, sizeof(T));
  return value;
}

template <class T>
void store(std::byte* to, const T& value) {
  std::memcpy(to, &value, sizeof(T));
}

inline void store_all(std::byte* to, const float* values, std::int64_t count) {
  if (count > 0) std::memcpy(to, values, static_cast<std::size_t>(count) * sizeof(float));
}

}  // namespace trireme::compress
