#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace trireme {

enum class DType : std::uint8_t { kF32, kF64, kF16, kBF16, kI32, kI64, kU8 };

/// Bytes of one element.
std::size_t size_of(DType dtype);

/// "f32", "f64", "f16", "bf16", "i32", "i64", "u8".
std::string_view name_of(DType dtype);

/// True for f32, f64, f16 and bf16.
bool is_floating(DType dtype);

enum class DeviceKind : std::uint8_t { kCpu, kCuda };

/// "cpu", "cuda".
std::string_view name_of(DeviceKind kind);

/// Where memory lies: in this process, or on a CUDA device, whose memory only the device can read.
struct Device {
  DeviceKind kind = DeviceKind::kCpu;
  std::int16_t index = -1;  ///< as CUDA counts; -1: the only one, or the one that the memory is of

  constexpr Device() = default;
  constexpr Device(DeviceKind kind, int index = -1)
      : kind(kind), index(static_cast<std::int16_t>(index)) {}
  bool operator==(const Device&) const = default;

  static const Device kCpu;
  static const Device kCuda;
};
inline constexpr Device Device::kCpu = DeviceKind::kCpu;
inline constexpr Device Device::kCuda = DeviceKind::kCuda;

/// "cpu", "cuda", "cuda:1".
std::string name_of(Device device);

/// The DType of a C++ type: dtype_of<float>() is kF32. f16 and bf16 have no C++ type here.
template <class T>
constexpr DType dtype_of();
template <>
constexpr DType dtype_of<float>() {
  return DType::kF32;
}
template <>
constexpr DType dtype_of<double>() {
  return DType::kF64;
}
template <>
constexpr DType dtype_of<std::int32_t>() {
  return DType::kI32;
}
template <>
constexpr DType dtype_of<std::int64_t>() {
  return DType::kI64;
}
template <>
constexpr DType dtype_of<std::uint8_t>() {
  return DType::kU8;
}

/// Typed, contiguous memory that it does not own.
struct Buffer {
  void* data = nullptr;
  std::int64_t count = 0;
  DType dtype = DType::kF32;
  Device device = Device::kCpu;

  std::size_t bytes() const { return static_cast<std::size_t>(count) * size_of(dtype); }

  /// Elements [first, first + n).
  Buffer slice(std::int64_t first, std::int64_t n) const {
    return {static_cast<char*>(data) + static_cast<std::size_t>(first) * size_of(dtype), n, dtype,
            device};
  }

  template <class T>
  T* as() const {
    return static_cast<T*>(data);
  }
};

template <class T>
Buffer buffer_of(std::span<T> values) {
  return {values.data(), static_cast<std::int64_t>(values.size()), dtype_of<T>()};
}

}  // namespace trireme
