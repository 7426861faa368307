#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "tests/comm/thread_sanitizer.h"
#include "trireme/base/buffer.h"
#include "trireme/comm/communicator.h"

namespace trireme::test {

/// All types; under ThreadSanitizer one of each width that is summed in another way.
inline std::span<const DType> all_types() {
  static constexpr DType kTypes[] = {DType::kF32, DType::kBF16, DType::kF64, DType::kF16,
                                     DType::kI32, DType::kI64,  DType::kU8};
  return std::span(kTypes).first(under_thread_sanitizer() ? 2 : std::size(kTypes));
}

/// Small whole numbers, which all types hold exactly.
inline std::uint64_t bits_of(DType dtype, int value) {
  std::uint64_t bits = 0;
  const auto as = [&](auto number) { std::memcpy(&bits, &number, sizeof(number)); };
  int exponent = 0;
  switch (dtype) {
    case DType::kF32:
      as(static_cast<float>(value));
      return bits;
    case DType::kBF16:
      as(static_cast<float>(value));
      return bits >> 16;
    case DType::kF16:
      if (value == 0) return 0;
      std::frexp(value, &exponent);
      return ((exponent + 14) << 10) | ((static_cast<unsigned>(value) << (11 - exponent)) & 0x3ff);
    case DType::kF64:
      as(static_cast<double>(value));
      return bits;
    default:
      return static_cast<std::uint64_t>(value);
  }
}

/// Calls `body` with a number that has the size of an element: what copies so many bytes is then a
/// load or a store, and no call that a sanitizer looks at.
template <class Body>
auto with_word(DType dtype, Body body) {
  switch (size_of(dtype)) {
    case 1:
      return body(std::uint8_t{});
    case 2:
      return body(std::uint16_t{});
    case 4:
      return body(std::uint32_t{});
    default:
      return body(std::uint64_t{});
  }
}

inline void put(const Buffer& x, std::int64_t i, int value) {
  const std::uint64_t bits = bits_of(x.dtype, value);
  with_word(x.dtype, [&](auto word) {
    word = static_cast<decltype(word)>(bits);
    std::memcpy(x.as<char>() + i * static_cast<std::int64_t>(sizeof(word)), &word, sizeof(word));
  });
}

inline bool holds(const Buffer& x, std::int64_t i, int value) {
  const std::uint64_t bits = bits_of(x.dtype, value);
  return with_word(x.dtype, [&](auto word) {
    std::memcpy(&word, x.as<char>() + i * static_cast<std::int64_t>(sizeof(word)), sizeof(word));
    return word == static_cast<decltype(word)>(bits);
  });
}

/// Where a rank's buffers lie.
enum class Place { kAllocated, kHeap, kMixed };

constexpr Place kAllPlaces[] = {Place::kAllocated, Place::kHeap, Place::kMixed};

/// A buffer in a place; kMixed: allocated on even ranks, on the heap on odd ones. Collective.
class Space {
 public:
  Space(Communicator& comm, Place place, DType dtype, std::int64_t count)
      : count_(count), dtype_(dtype) {
    const std::size_t bytes = static_cast<std::size_t>(count) * size_of(dtype);
    const bool heap = place == Place::kHeap || (place == Place::kMixed && comm.rank() % 2 == 1);
    memory_ = comm.allocate(heap ? 0 : bytes);
    // Off by one element: buffers need no alignment.
    if (heap) heap_.resize(bytes + size_of(dtype));
    data_ = heap ? heap_.data() + size_of(dtype) : static_cast<char*>(memory_.data());
  }

  Buffer buffer() { return {data_, count_, dtype_}; }

 private:
  std::int64_t count_;
  DType dtype_;
  Memory memory_;
  std::vector<char> heap_;
  char* data_;
};

}  // namespace trireme::test
