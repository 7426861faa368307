#include "trireme/kernels/norm.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "trireme/base/error.h"

#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_AVX3_DL)
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "trireme/kernels/norm.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace trireme::HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

constexpr std::size_t kPartialSums = 16;

template <class D, class T>
hn::Vec<D> load_as_f64(D d, const T* p) {
  if constexpr (sizeof(T) == sizeof(double)) {
    return hn::LoadU(d, p);
  } else {
    return hn::PromoteTo(d, hn::LoadU(hn::Rebind<float, D>(), p));
  }
}

template <class T>
double squares(const T* x, std::size_t count) {
  const hn::CappedTag<double, kPartialSums> d;
  constexpr std::size_t kVectors = kPartialSums / hn::MaxLanes(d);
  hn::Vec<decltype(d)> sums[kVectors];
  for (auto& sum : sums) sum = hn::Zero(d);
  std::size_t i = 0;
  for (; i + kPartialSums <= count; i += kPartialSums) {
    for (std::size_t v = 0; v < kVectors; ++v) {
      const auto value = load_as_f64(d, x + i + v * hn::MaxLanes(d));
      sums[v] = hn::Add(sums[v], hn::Mul(value, value));
    }
  }
  double partial[kPartialSums];
  for (std::size_t v = 0; v < kVectors; ++v) {
    hn::StoreU(sums[v], d, partial + v * hn::MaxLanes(d));
  }
  for (std::size_t j = 0; i + j < count; ++j) {
    const double value = x[i + j];
    partial[j] += value * value;
  }
  for (std::size_t width = kPartialSums / 2; width > 0; width /= 2) {
    for (std::size_t j = 0; j < width; ++j) partial[j] += partial[j + width];
  }
  return partial[0];
}

double squares_f32(const float* x, std::size_t count) {
  return squares(x, count);
}
double squares_f64(const double* x, std::size_t count) {
  return squares(x, count);
}

// A floating value is finite unless its exponent, the bits of `exponent`, is all ones.
template <class Word>
bool finite(const Word* x, std::size_t count, Word exponent) {
  constexpr std::size_t kStride = 4096;
  for (std::size_t first = 0; first < count; first += kStride) {
    const std::size_t end = std::min(count, first + kStride);
    Word bad = 0;
    for (std::size_t i = first; i < end; ++i) bad |= (x[i] & exponent) == exponent;
    if (bad) return false;
  }
  return true;
}

bool finite_16(const std::uint16_t* x, std::size_t count, std::uint16_t exponent) {
  return finite(x, count, exponent);
}
bool finite_32(const std::uint32_t* x, std::size_t count) {
  return finite(x, count, std::uint32_t{0x7F800000});
}
bool finite_64(const std::uint64_t* x, std::size_t count) {
  return finite(x, count, std::uint64_t{0x7FF0000000000000});
}

}  // namespace
}  // namespace trireme::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace trireme {
namespace {

HWY_EXPORT(squares_f32);
HWY_EXPORT(squares_f64);
HWY_EXPORT(finite_16);
HWY_EXPORT(finite_32);
HWY_EXPORT(finite_64);

}  // namespace

double sum_of_squares(Buffer x) {
  const auto count = static_cast<std::size_t>(x.count);
  switch (x.dtype) {
    case DType::kF32:
      return HWY_DYNAMIC_DISPATCH(squares_f32)(x.as<float>(), count);
    case DType::kF64:
      return HWY_DYNAMIC_DISPATCH(squares_f64)(x.as<double>(), count);
    default:
      throw UsageError(
          fmt::format("sum_of_squares: values must be f32 or f64, got {}", name_of(x.dtype)));
  }
}

bool all_finite(Buffer x) {
  const auto count = static_cast<std::size_t>(x.count);
  switch (x.dtype) {
    case DType::kF16:
      return HWY_DYNAMIC_DISPATCH(finite_16)(x.as<std::uint16_t>(), count, 0x7C00);
    case DType::kBF16:
      return HWY_DYNAMIC_DISPATCH(finite_16)(x.as<std::uint16_t>(), count, 0x7F80);
    case DType::kF32:
      return HWY_DYNAMIC_DISPATCH(finite_32)(x.as<std::uint32_t>(), count);
    case DType::kF64:
      return HWY_DYNAMIC_DISPATCH(finite_64)(x.as<std::uint64_t>(), count);
    default:
      return true;
  }
}

}  // namespace trireme
#endif  // HWY_ONCE
