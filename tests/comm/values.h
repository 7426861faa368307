#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "trireme/base/buffer.h"
#include "trireme/comm/communicator.h"

namespace trireme::test {

constexpr DType kAllTypes[] = {DType::kF32, DType::kF64, DType::kF16, DType::kBF16,
                               DType::kI32, DType::kI64, DType::kU8};

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

inline void put(const Buffer& x, std::int64_t i, int value) {
  const std::uint64_t bits = bits_of(x.dtype, value);
  std::memcpy(x.slice(i, 1).data, &bits, size_of(x.dtype));
}

inline bool holds(const Buffer& x, std::int64_t i, int value) {
  const std::uint64_t bits = bits_of(x.dtype, value);
  return std::memcmp(x.slice(i, 1).data, &bits, size_of(x.dtype)) == 0;
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
