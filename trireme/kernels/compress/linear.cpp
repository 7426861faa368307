#include "trireme/kernels/compress/linear.h"

#include <cstddef>
#include <cstring>

#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_AVX3_DL)
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "trireme/kernels/compress/linear.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace trireme::HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

constexpr std::size_t kPartialSums = 16;

// The values lie at any address.
void add_scaled_all(float* sum, const char* values, float factor, std::size_t count) {
  const hn::ScalableTag<float> d;
  const auto scale = hn::Set(d, factor);
  std::size_t i = 0;
  for (; i + hn::Lanes(d) <= count; i += hn::Lanes(d)) {
    HWY_ALIGN float aligned[hn::MaxLanes(d)];
    std::memcpy(aligned, values + i * sizeof(float), hn::Lanes(d) * sizeof(float));
    const auto term = hn::Mul(hn::Load(d, aligned), scale);
    hn::StoreU(hn::Add(hn::LoadU(d, sum + i), term), d, sum + i);
  }
  for (; i < count; ++i) {
    float value;
    std::memcpy(&value, values + i * sizeof(float), sizeof value);
    sum[i] += value * factor;
  }
}

float dot_all(const float* x, const float* y, std::size_t count) {
  const hn::CappedTag<float, kPartialSums> d;
  constexpr std::size_t kVectors = kPartialSums / hn::MaxLanes(d);
  hn::Vec<decltype(d)> sums[kVectors];
  for (auto& sum : sums) sum = hn::Zero(d);
  std::size_t i = 0;
  for (; i + kPartialSums <= count; i += kPartialSums) {
    for (std::size_t v = 0; v < kVectors; ++v) {
      const std::size_t at = i + v * hn::MaxLanes(d);
      sums[v] = hn::Add(sums[v], hn::Mul(hn::LoadU(d, x + at), hn::LoadU(d, y + at)));
    }
  }
  float partial[kPartialSums];
  for (std::size_t v = 0; v < kVectors; ++v) {
    hn::StoreU(sums[v], d, partial + v * hn::MaxLanes(d));
  }
  for (std::size_t j = 0; i + j < count; ++j) partial[j] += x[i + j] * y[i + j];
  for (std::size_t width = kPartialSums / 2; width > 0; width /= 2) {
    for (std::size_t j = 0; j < width; ++j) partial[j] += partial[j + width];
  }
  return partial[0];
}

}  // namespace
}  // namespace trireme::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace trireme {
namespace {

HWY_EXPORT(add_scaled_all);
HWY_EXPORT(dot_all);

}  // namespace

namespace compress {

void add_scaled(float* sum, const void* values, float factor, std::int64_t count) {
  HWY_DYNAMIC_DISPATCH(add_scaled_all)
  (sum, static_cast<const char*>(values), factor, static_cast<std::size_t>(count));
}

float dot(const float* x, const float* y, std::int64_t count) {
  return HWY_DYNAMIC_DISPATCH(dot_all)(x, y, static_cast<std::size_t>(count));
}

}  // namespace compress
}  // namespace trireme
#endif  // HWY_ONCE
