#include "trireme/kernels/cast.h"

#include <cstddef>
#include <cstdint>

#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_AVX3_DL)
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "trireme/kernels/cast.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "trireme/kernels/half-inl.h"

HWY_BEFORE_NAMESPACE();
namespace trireme::HWY_NAMESPACE {
namespace {

template <class D>
std::size_t widen_from(D d, const std::uint16_t* from, bool brain, float* to, std::size_t count,
                       std::size_t i) {
  for (; i + hn::Lanes(d) <= count; i += hn::Lanes(d)) {
    hn::StoreU(brain ? load_bf16(d, from + i) : load_f16(d, from + i), d, to + i);
  }
  return i;
}

template <class D>
std::size_t narrow_from(D d, const float* from, bool brain, std::uint16_t* to, std::size_t count,
                        std::size_t i) {
  for (; i + hn::Lanes(d) <= count; i += hn::Lanes(d)) {
    const auto value = hn::LoadU(d, from + i);
    brain ? store_bf16(d, value, to + i) : store_f16(d, value, to + i);
  }
  return i;
}

template <class D>
std::size_t round_from(D d, const float* from, bool brain, float* to, std::size_t count,
                       std::size_t i) {
  for (; i + hn::Lanes(d) <= count; i += hn::Lanes(d)) {
    const auto value = hn::LoadU(d, from + i);
    const auto rounded =
        brain ? f32_of_bf16(d, bf16_of_f32(d, value)) : f32_of_f16(d, f16_of_f32(d, value));
    hn::StoreU(rounded, d, to + i);
  }
  return i;
}

// Converts whole vectors, then the rest one by one.
void widen_all(const std::uint16_t* from, bool brain, float* to, std::size_t count) {
  const std::size_t done = widen_from(hn::ScalableTag<float>(), from, brain, to, count, 0);
  widen_from(hn::CappedTag<float, 1>(), from, brain, to, count, done);
}

void narrow_all(const float* from, bool brain, std::uint16_t* to, std::size_t count) {
  const std::size_t done = narrow_from(hn::ScalableTag<float>(), from, brain, to, count, 0);
  narrow_from(hn::CappedTag<float, 1>(), from, brain, to, count, done);
}

void round_all(const float* from, bool brain, float* to, std::size_t count) {
  const std::size_t done = round_from(hn::ScalableTag<float>(), from, brain, to, count, 0);
  round_from(hn::CappedTag<float, 1>(), from, brain, to, count, done);
}

}  // namespace
}  // namespace trireme::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace trireme {
namespace {

HWY_EXPORT(widen_all);
HWY_EXPORT(narrow_all);
HWY_EXPORT(round_all);

}  // namespace

void widen(const Buffer& from, float* to) {
  HWY_DYNAMIC_DISPATCH(widen_all)
  (from.as<const std::uint16_t>(), from.dtype == DType::kBF16, to,
   static_cast<std::size_t>(from.count));
}

void narrow(const float* from, const Buffer& to) {
  HWY_DYNAMIC_DISPATCH(narrow_all)
  (from, to.dtype == DType::kBF16, to.as<std::uint16_t>(), static_cast<std::size_t>(to.count));
}

void round_to(DType dtype, const float* from, float* to, std::int64_t count) {
  HWY_DYNAMIC_DISPATCH(round_all)
  (from, dtype == DType::kBF16, to, static_cast<std::size_t>(count));
}

}  // namespace trireme
#endif  // HWY_ONCE
