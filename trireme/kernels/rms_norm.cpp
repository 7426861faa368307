#include "trireme/kernels/rms_norm.h"

#include <fmt/format.h>

#include <cmath>
#include <cstddef>

#include "trireme/base/error.h"

namespace trireme {

namespace {

// Sums have this many partial ones, so that a compiler may use vectors, in one order on all of
// them.
constexpr std::size_t kLanes = 16;

template <class T, class Term>
T sum_of(std::size_t count, const Term& term) {
  T partial[kLanes] = {};
  std::size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (std::size_t lane = 0; lane < kLanes; ++lane) partial[lane] += term(i + lane);
  }
  for (std::size_t lane = 0; i < count; ++i, ++lane) partial[lane] += term(i);
  for (std::size_t width = kLanes / 2; width > 0; width /= 2) {
    for (std::size_t lane = 0; lane < width; ++lane) partial[lane] += partial[lane + width];
  }
  return partial[0];
}

template <class T>
void forward(T* y, T* inverse_rms, const T* x, const T* weight, std::size_t rows, std::size_t width,
             double eps) {
  for (std::size_t row = 0; row < rows; ++row, x += width, y += width) {
    const T squares = sum_of<T>(width, [&](std::size_t i) { return x[i] * x[i]; });
    const T inverse = 1 / std::sqrt(squares / static_cast<T>(width) + static_cast<T>(eps));
    for (std::size_t i = 0; i < width; ++i) y[i] = weight[i] * (x[i] * inverse);
    inverse_rms[row] = inverse;
  }
}

// With n = x r, r = inverse_rms: dx = r (w dy - n mean(n w dy)).
template <class T>
void backward(T* dx, T* dweight, const T* dy, const T* x, const T* weight, const T* inverse_rms,
              std::size_t rows, std::size_t width) {
  for (std::size_t row = 0; row < rows; ++row, x += width, dy += width, dx += width) {
    const T inverse = inverse_rms[row];
    const T along =
        sum_of<T>(width, [&](std::size_t i) { return x[i] * inverse * weight[i] * dy[i]; }) /
        static_cast<T>(width);
    for (std::size_t i = 0; i < width; ++i) {
      const T normalized = x[i] * inverse;
      dweight[i] += dy[i] * normalized;
      dx[i] = inverse * (weight[i] * dy[i] - normalized * along);
    }
  }
}

[[noreturn]] void refuse(DType dtype) {
  throw UsageError(fmt::format("rms_norm needs f32 or f64, got {}", name_of(dtype)));
}

}  // namespace

void rms_norm(Buffer y, Buffer inverse_rms, Buffer x, Buffer weight, double eps) {
  const auto rows = static_cast<std::size_t>(inverse_rms.count);
  const auto width = static_cast<std::size_t>(weight.count);
  switch (x.dtype) {
    case DType::kF32:
      return forward(y.as<float>(), inverse_rms.as<float>(), x.as<float>(), weight.as<float>(),
                     rows, width, eps);
    case DType::kF64:
      return forward(y.as<double>(), inverse_rms.as<double>(), x.as<double>(), weight.as<double>(),
                     rows, width, eps);
    default:
      refuse(x.dtype);
  }
}

void rms_norm_backward(Buffer dx, Buffer dweight, Buffer dy, Buffer x, Buffer weight,
                       Buffer inverse_rms) {
  const auto rows = static_cast<std::size_t>(inverse_rms.count);
  const auto width = static_cast<std::size_t>(weight.count);
  switch (x.dtype) {
    case DType::kF32:
      return backward(dx.as<float>(), dweight.as<float>(), dy.as<float>(), x.as<float>(),
                      weight.as<float>(), inverse_rms.as<float>(), rows, width);
    case DType::kF64:
      return backward(dx.as<double>(), dweight.as<double>(), dy.as<double>(), x.as<double>(),
                      weight.as<double>(), inverse_rms.as<double>(), rows, width);
    default:
      refuse(x.dtype);
  }
}

}  // namespace trireme
