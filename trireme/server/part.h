#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace trireme::server {

/// What one part of a message is about, and what its payload holds.
enum class PartKind : std::uint8_t {
  kGradient = 1,     ///< partial sums of the range's gradient, one row of `count` elements each
  kEncodedGradient,  ///< the range's gradient, encoded (kernels/compress.h)
  kRowGradients,     ///< count keys (u64), then count rows of gradients (f32)
  kValues,           ///< the range's elements of array `array`
  kRowValues,        ///< count keys, then count rows of array `array`; in a reply the rows alone
  kReadRange,        ///< no payload: reads the range
  kReadRows,         ///< count keys: reads their rows
  kReadKeys,         ///< no payload: reads `count` keys from row `first` on; a reply may have fewer
};

/// The array that counts the updates of a dense table or of each row, i64.
inline constexpr std::uint8_t kStepArray = 255;

struct Part {
  std::uint32_t table = 0;  ///< dense tables first, then sparse ones, in the order of the schema
  PartKind kind = PartKind::kReadRange;
  std::uint8_t array = 0;  ///< 0: the values; i: array i - 1 of the optimizer's state; kStepArray
  bool empty = false;  ///< of a gradient: it is zero because no sample reached the parameter; if
                       ///< every worker's is empty, the parameter is not updated
  std::int64_t first = 0;  ///< first element of a range
  std::int64_t count = 0;  ///< elements of a range, or keys
  std::span<const std::byte> payload;

  bool is_gradient() const {
    return kind == PartKind::kGradient || kind == PartKind::kEncodedGradient ||
           kind == PartKind::kRowGradients;
  }
};

/// The keys at the beginning of the payload of a part of kind kRowGradients, kRowValues or
/// kReadRows; 8-byte aligned.
inline std::span<const std::uint64_t> keys_of(const Part& part) {
  return {reinterpret_cast<const std::uint64_t*>(part.payload.data()),
          static_cast<std::size_t>(part.count)};
}

/// The rows behind the keys.
inline const std::byte* rows_in(const Part& part) {
  return part.payload.data() + static_cast<std::size_t>(part.count) * sizeof(std::uint64_t);
}

}  // namespace trireme::server
