#include "trireme/kernels/norm.h"

#include <fmt/format.h>

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>

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

// Without their signs floating values are ordered as their bits are, NaN after infinity. Words are
// signed: not every instruction set compares others.
template <class Word>
Word largest_bits(const Word* x, std::size_t count) {
  constexpr Word kWithoutSign = std::numeric_limits<Word>::max();
  Word largest = 0;
  for (std::size_t i = 0; i < count; ++i) {
    const auto bits = static_cast<Word>(x[i] & kWithoutSign);
    largest = largest < bits ? bits : largest;
  }
  return largest;
}

std::int16_t largest_16(const std::int16_t* x, std::size_t count) {
  return largest_bits(x, count);
}
std::int32_t largest_32(const std::int32_t* x, std::size_t count) {
  return largest_bits(x, count);
}
std::int64_t largest_64(const std::int64_t* x, std::size_t count) {
  return largest_bits(x, count);
}

}  // namespace
}  // namespace trireme::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace trireme {
namespace {

HWY_EXPORT(squares_f32);
HWY_EXPORT(squares_f64);
HWY_EXPORT(largest_16);
HWY_EXPORT(largest_32);
HWY_EXPORT(largest_64);

double f16_of(std::int16_t bits) {
  const int exponent = bits >> 10;
  const int fraction = bits & 0x3FF;
  if (exponent == 0x1F) return std::numeric_limits<double>::infinity();
  return exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(0x400 + fraction, exponent - 25);
}

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

double largest_magnitude(Buffer x) {
  const auto count = static_cast<std::size_t>(x.count);
  double largest = 0;
  switch (x.dtype) {
    case DType::kF16:
      largest = f16_of(HWY_DYNAMIC_DISPATCH(largest_16)(x.as<std::int16_t>(), count));
      break;
    case DType::kBF16:
      largest =
          std::bit_cast<float>(HWY_DYNAMIC_DISPATCH(largest_16)(x.as<std::int16_t>(), count) << 16);
      break;
    case DType::kF32:
      largest = std::bit_cast<float>(HWY_DYNAMIC_DISPATCH(largest_32)(x.as<std::int32_t>(), count));
      break;
    case DType::kF64:
      largest =
          std::bit_cast<double>(HWY_DYNAMIC_DISPATCH(largest_64)(x.as<std::int64_t>(), count));
      break;
    default:
      break;
  }
  return std::isnan(largest) ? std::numeric_limits<double>::infinity() : largest;
}

bool all_finite(Buffer x) {
  return std::isfinite(largest_magnitude(x));
}

double largest_finite(DType dtype) {
  switch (dtype) {
    case DType::kF16:
      return 65504;
    case DType::kBF16:
      return std::bit_cast<float>(0x7F7F0000);
    case DType::kF32:
      return std::numeric_limits<float>::max();
    default:
      return std::numeric_limits<double>::max();
  }
}

}  // namespace trireme
#endif  // HWY_ONCE
