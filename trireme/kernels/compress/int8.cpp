#include "trireme/kernels/compress/int8.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_AVX3_DL)
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "trireme/kernels/compress/int8.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace trireme::HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

constexpr float kLevels = 127;
// Below, kLevels / largest overflows or the scale is denormal.
constexpr float kLeast = 1e-35f;

// As integers, which order NaN above infinity above all numbers.
template <class D>
float largest_from(D d, const float* x, std::size_t count, std::size_t& i, float most) {
  const hn::RebindToSigned<D> di;
  auto top = hn::BitCast(di, hn::Set(d, most));
  for (; i + hn::Lanes(d) <= count; i += hn::Lanes(d)) {
    top = hn::Max(top, hn::BitCast(di, hn::Abs(hn::LoadU(d, x + i))));
  }
  return hn::GetLane(hn::BitCast(d, hn::MaxOfLanes(di, top)));
}

float largest(const float* x, std::size_t count) {
  std::size_t i = 0;
  const float most = largest_from(hn::ScalableTag<float>(), x, count, i, 0);
  return largest_from(hn::CappedTag<float, 1>(), x, count, i, most);
}

template <class D>
std::size_t quantize_from(D d, const float* x, float inverse, std::int8_t* out, std::size_t count,
                          std::size_t i) {
  const hn::Rebind<std::int8_t, D> d8;
  const auto scale = hn::Set(d, inverse);
  for (; i + hn::Lanes(d) <= count; i += hn::Lanes(d)) {
    const auto level = hn::NearestInt(hn::Mul(hn::LoadU(d, x + i), scale));
    hn::StoreU(hn::DemoteTo(d8, level), d8, out + i);
  }
  return i;
}

void quantize_block(const float* x, std::size_t count, std::byte* scale_out, std::int8_t* out) {
  const float most = largest(x, count);
  const float scale = most < kLeast ? 0 : most / kLevels;
  std::memcpy(scale_out, &scale, sizeof(scale));
  if (scale == 0 || !std::isfinite(scale)) {
    std::memset(out, 0, count);  // 0 times infinity or NaN is NaN
    return;
  }
  const float inverse = kLevels / most;
  const std::size_t done = quantize_from(hn::ScalableTag<float>(), x, inverse, out, count, 0);
  quantize_from(hn::CappedTag<float, 1>(), x, inverse, out, count, done);
}

template <class D>
std::size_t add_from(D d, const std::int8_t* in, float scale, float factor, float* sum,
                     std::size_t count, std::size_t i) {
  const hn::Rebind<std::int8_t, D> d8;
  const hn::RebindToSigned<D> di;
  const auto by = hn::Set(d, scale);
  const auto times = hn::Set(d, factor);
  for (; i + hn::Lanes(d) <= count; i += hn::Lanes(d)) {
    const auto level = hn::ConvertTo(d, hn::PromoteTo(di, hn::LoadU(d8, in + i)));
    const auto term = hn::Mul(hn::Mul(level, by), times);
    hn::StoreU(hn::Add(hn::LoadU(d, sum + i), term), d, sum + i);
  }
  return i;
}

void add_block(const std::int8_t* in, float scale, float factor, float* sum, std::size_t count) {
  const std::size_t done = add_from(hn::ScalableTag<float>(), in, scale, factor, sum, count, 0);
  add_from(hn::CappedTag<float, 1>(), in, scale, factor, sum, count, done);
}

void quantize(const float* x, std::size_t count, std::size_t block, std::byte* scales,
              std::int8_t* out) {
  for (std::size_t i = 0; i < count; i += block, scales += sizeof(float)) {
    quantize_block(x + i, std::min(block, count - i), scales, out + i);
  }
}

void add_quantized(const std::byte* scales, const std::int8_t* in, std::size_t count,
                   std::size_t block, float factor, float* sum) {
  for (std::size_t i = 0; i < count; i += block, scales += sizeof(float)) {
    float scale;
    std::memcpy(&scale, scales, sizeof(scale));
    add_block(in + i, scale, factor, sum + i, std::min(block, count - i));
  }
}

}  // namespace
}  // namespace trireme::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace trireme {
namespace {

HWY_EXPORT(quantize);
HWY_EXPORT(add_quantized);

}  // namespace

namespace compress {

void Int8::encode(const float* x, std::int64_t count, std::byte* body) {
  std::byte* const levels = body + blocks(count) * sizeof(float);
  HWY_DYNAMIC_DISPATCH(quantize)
  (x, static_cast<std::size_t>(count), kBlock, body, reinterpret_cast<std::int8_t*>(levels));
}

void Int8::add(const std::byte* body, std::int64_t count, float* sum, float factor) {
  const std::byte* const levels = body + blocks(count) * sizeof(float);
  HWY_DYNAMIC_DISPATCH(add_quantized)
  (body, reinterpret_cast<const std::int8_t*>(levels), static_cast<std::size_t>(count), kBlock,
   factor, sum);
}

}  // namespace compress
}  // namespace trireme
#endif  // HWY_ONCE
