#include "trireme/kernels/activation.h"

#include <fmt/format.h>

#include <cstddef>

#include "trireme/base/error.h"

#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_AVX3_DL)
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "trireme/kernels/activation.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"

#include "hwy/contrib/math/math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace trireme::HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

// Whole vectors, then the rest one by one: an element has the same bits wherever it lies.
template <class T, class Body>
HWY_INLINE void for_each(std::int64_t count, const Body& body) {
  const auto all = static_cast<std::size_t>(count);
  const hn::ScalableTag<T> d;
  const hn::CappedTag<T, 1> one;
  std::size_t i = 0;
  for (; i + hn::Lanes(d) <= all; i += hn::Lanes(d)) body(d, i);
  for (; i < all; ++i) body(one, i);
}

template <class D>
HWY_INLINE hn::Vec<D> sigmoid(D d, hn::Vec<D> x) {
  // hn::Exp() is right up to here, and 1 / exp(88) is 0 beside any x.
  const auto exponent = hn::Min(hn::Neg(x), hn::Set(d, 88));
  const auto one = hn::Set(d, 1);
  return hn::Div(one, hn::Add(one, hn::Exp(d, exponent)));
}

// tanh(u / 2) is 2 sigmoid(u) - 1, so that GELU is x sigmoid(x (kLinear + kCubic x^2)).
constexpr double kLinear = 1.5957691216057308;  // 2 sqrt(2 / pi)
constexpr double kCubic = 0.044715 * kLinear;

template <class T>
void gelu_of(const Buffer& y, const Buffer& x) {
  for_each<T>(x.count, [&](auto d, std::size_t i) {
    const auto v = hn::LoadU(d, x.as<const T>() + i);
    const auto linear = hn::Set(d, static_cast<T>(kLinear));
    const auto cubic = hn::Set(d, static_cast<T>(kCubic));
    const auto s = sigmoid(d, hn::Mul(v, hn::MulAdd(cubic, hn::Mul(v, v), linear)));
    hn::StoreU(hn::Mul(v, s), d, y.as<T>() + i);
  });
}

template <class T>
void gelu_gradient(const Buffer& dx, const Buffer& dy, const Buffer& x) {
  for_each<T>(x.count, [&](auto d, std::size_t i) {
    const auto v = hn::LoadU(d, x.as<const T>() + i);
    const auto linear = hn::Set(d, static_cast<T>(kLinear));
    const auto cubic = hn::Set(d, static_cast<T>(kCubic));
    const auto square = hn::Mul(cubic, hn::Mul(v, v));
    const auto s = sigmoid(d, hn::Mul(v, hn::Add(square, linear)));
    // s (1 - s) is the derivative of s by u, and linear + 3 square that of u.
    const auto slope = hn::MulAdd(hn::Set(d, 3), square, linear);
    const auto rest = hn::Mul(hn::Mul(v, slope), hn::Sub(hn::Set(d, 1), s));
    const auto derivative = hn::MulAdd(s, rest, s);
    hn::StoreU(hn::Mul(hn::LoadU(d, dy.as<const T>() + i), derivative), d, dx.as<T>() + i);
  });
}

template <class T>
void swiglu_of(const Buffer& y, const Buffer& gate, const Buffer& up) {
  for_each<T>(y.count, [&](auto d, std::size_t i) {
    const auto g = hn::LoadU(d, gate.as<const T>() + i);
    const auto u = hn::LoadU(d, up.as<const T>() + i);
    hn::StoreU(hn::Mul(hn::Mul(g, sigmoid(d, g)), u), d, y.as<T>() + i);
  });
}

template <class T>
void swiglu_gradient(const Buffer& dgate, const Buffer& dup, const Buffer& dy, const Buffer& gate,
                     const Buffer& up) {
  for_each<T>(dy.count, [&](auto d, std::size_t i) {
    const auto g = hn::LoadU(d, gate.as<const T>() + i);
    const auto u = hn::LoadU(d, up.as<const T>() + i);
    const auto gradient = hn::LoadU(d, dy.as<const T>() + i);
    const auto s = sigmoid(d, g);
    hn::StoreU(hn::Mul(gradient, hn::Mul(g, s)), d, dup.as<T>() + i);
    const auto slope = hn::MulAdd(g, hn::Sub(hn::Set(d, 1), s), hn::Set(d, 1));
    hn::StoreU(hn::Mul(hn::Mul(gradient, u), hn::Mul(s, slope)), d, dgate.as<T>() + i);
  });
}

void gelu_all(const Buffer& y, const Buffer& x) {
  x.dtype == DType::kF32 ? gelu_of<float>(y, x) : gelu_of<double>(y, x);
}

void gelu_backward_all(const Buffer& dx, const Buffer& dy, const Buffer& x) {
  x.dtype == DType::kF32 ? gelu_gradient<float>(dx, dy, x) : gelu_gradient<double>(dx, dy, x);
}

void swiglu_all(const Buffer& y, const Buffer& gate, const Buffer& up) {
  y.dtype == DType::kF32 ? swiglu_of<float>(y, gate, up) : swiglu_of<double>(y, gate, up);
}

void swiglu_backward_all(const Buffer& dgate, const Buffer& dup, const Buffer& dy,
                         const Buffer& gate, const Buffer& up) {
  dy.dtype == DType::kF32 ? swiglu_gradient<float>(dgate, dup, dy, gate, up)
                          : swiglu_gradient<double>(dgate, dup, dy, gate, up);
}

}  // namespace
}  // namespace trireme::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace trireme {
namespace {

HWY_EXPORT(gelu_all);
HWY_EXPORT(gelu_backward_all);
HWY_EXPORT(swiglu_all);
HWY_EXPORT(swiglu_backward_all);

void require_float(const char* what, DType dtype) {
  if (dtype == DType::kF32 || dtype == DType::kF64) return;
  throw UsageError(fmt::format("{} needs f32 or f64, got {}", what, name_of(dtype)));
}

}  // namespace

void gelu(const Buffer& y, const Buffer& x) {
  require_float("gelu", x.dtype);
  HWY_DYNAMIC_DISPATCH(gelu_all)(y, x);
}

void gelu_backward(const Buffer& dx, const Buffer& dy, const Buffer& x) {
  require_float("gelu", x.dtype);
  HWY_DYNAMIC_DISPATCH(gelu_backward_all)(dx, dy, x);
}

void swiglu(const Buffer& y, const Buffer& gate, const Buffer& up) {
  require_float("swiglu", y.dtype);
  HWY_DYNAMIC_DISPATCH(swiglu_all)(y, gate, up);
}

void swiglu_backward(const Buffer& dgate, const Buffer& dup, const Buffer& dy, const Buffer& gate,
                     const Buffer& up) {
  require_float("swiglu", dy.dtype);
  HWY_DYNAMIC_DISPATCH(swiglu_backward_all)(dgate, dup, dy, gate, up);
}

}  // namespace trireme
#endif  // HWY_ONCE
