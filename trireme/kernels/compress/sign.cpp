#include "trireme/kernels/compress/sign.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_AVX3_DL)
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "trireme/kernels/compress/sign.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace trireme::HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

constexpr std::size_t kPartialSums = 16;
constexpr std::size_t kBitsOfByte = 8;

float sum_of_magnitudes(const float* x, std::size_t count) {
  const hn::CappedTag<float, kPartialSums> d;
  constexpr std::size_t kVectors = kPartialSums / hn::MaxLanes(d);
  hn::Vec<decltype(d)> sums[kVectors];
  for (auto& sum : sums) sum = hn::Zero(d);
  std::size_t i = 0;
  for (; i + kPartialSums <= count; i += kPartialSums) {
    for (std::size_t v = 0; v < kVectors; ++v) {
      sums[v] = hn::Add(sums[v], hn::Abs(hn::LoadU(d, x + i + v * hn::MaxLanes(d))));
    }
  }
  float partial[kPartialSums];
  for (std::size_t v = 0; v < kVectors; ++v) {
    hn::StoreU(sums[v], d, partial + v * hn::MaxLanes(d));
  }
  for (std::size_t j = 0; i + j < count; ++j) partial[j] += std::abs(x[i + j]);
  for (std::size_t width = kPartialSums / 2; width > 0; width /= 2) {
    for (std::size_t j = 0; j < width; ++j) partial[j] += partial[j + width];
  }
  return partial[0];
}

// Eight values make a byte, in one vector or several.
using Octet = hn::CappedTag<float, kBitsOfByte>;

std::uint8_t signs_of_eight(const float* x) {
  const Octet d;
  std::uint8_t byte = 0;
  for (std::size_t i = 0; i < kBitsOfByte; i += hn::Lanes(d)) {
    std::uint8_t bits[8] = {};
    hn::StoreMaskBits(d, hn::Lt(hn::LoadU(d, x + i), hn::Zero(d)), bits);
    byte = static_cast<std::uint8_t>(byte | bits[0] << i);
  }
  return byte;
}

void add_eight(std::uint8_t byte, float term, float* sum) {
  const Octet d;
  const auto plus = hn::Set(d, term);
  for (std::size_t i = 0; i < kBitsOfByte; i += hn::Lanes(d)) {
    const std::uint8_t bits[8] = {static_cast<std::uint8_t>(byte >> i)};
    const auto signed_term = hn::IfThenElse(hn::LoadMaskBits(d, bits), hn::Neg(plus), plus);
    hn::StoreU(hn::Add(hn::LoadU(d, sum + i), signed_term), d, sum + i);
  }
}

void write_signs(const float* x, std::size_t count, std::size_t block, std::byte* scales,
                 std::uint8_t* bits) {
  for (std::size_t i = 0; i < count; i += block, scales += sizeof(float)) {
    const std::size_t here = std::min(block, count - i);
    const float scale = sum_of_magnitudes(x + i, here) / static_cast<float>(here);
    std::memcpy(scales, &scale, sizeof(scale));
  }
  std::size_t i = 0;
  for (; i + kBitsOfByte <= count; i += kBitsOfByte) bits[i / kBitsOfByte] = signs_of_eight(x + i);
  if (i == count) return;
  std::uint8_t last = 0;
  for (std::size_t j = 0; i + j < count; ++j)
    last |= static_cast<std::uint8_t>((x[i + j] < 0) << j);
  bits[i / kBitsOfByte] = last;
}

void add_signs(const std::byte* scales, const std::uint8_t* bits, std::size_t count,
               std::size_t block, float factor, float* sum) {
  for (std::size_t first = 0; first < count; first += block, scales += sizeof(float)) {
    float scale;
    std::memcpy(&scale, scales, sizeof(scale));
    const float term = scale * factor;
    const std::size_t end = std::min(count, first + block);
    std::size_t i = first;
    for (; i + kBitsOfByte <= end; i += kBitsOfByte) {
      add_eight(bits[i / kBitsOfByte], term, sum + i);
    }
    for (; i < end; ++i) {
      sum[i] += bits[i / kBitsOfByte] >> i % kBitsOfByte & 1 ? -term : term;
    }
  }
}

}  // namespace
}  // namespace trireme::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace trireme {
namespace {

HWY_EXPORT(write_signs);
HWY_EXPORT(add_signs);

}  // namespace

namespace compress {

static_assert(Sign::kBlock % 8 == 0, "a byte's signs have one scale");

void Sign::encode(const float* x, std::int64_t count, std::byte* body) {
  std::byte* const bits = body + blocks(count) * sizeof(float);
  HWY_DYNAMIC_DISPATCH(write_signs)
  (x, static_cast<std::size_t>(count), kBlock, body, reinterpret_cast<std::uint8_t*>(bits));
}

void Sign::add(const std::byte* body, std::int64_t count, float* sum, float factor) {
  const std::byte* const bits = body + blocks(count) * sizeof(float);
  HWY_DYNAMIC_DISPATCH(add_signs)
  (body, reinterpret_cast<const std::uint8_t*>(bits), static_cast<std::size_t>(count), kBlock,
   factor, sum);
}

}  // namespace compress
}  // namespace trireme
#endif  // HWY_ONCE
