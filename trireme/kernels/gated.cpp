#include "trireme/kernels/gated.h"

#include <fmt/format.h>

#include <cmath>
#include <cstddef>

#include "trireme/base/error.h"

namespace trireme {

namespace {

template <class T>
T sigmoid(T x) {
  return 1 / (1 + std::exp(-x));
}

template <class T>
void forward(T* y, const T* gate, const T* up, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) y[i] = gate[i] * sigmoid(gate[i]) * up[i];
}

template <class T>
void backward(T* dgate, T* dup, const T* dy, const T* gate, const T* up, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) {
    const T s = sigmoid(gate[i]);
    dup[i] = dy[i] * gate[i] * s;
    dgate[i] = dy[i] * up[i] * s * (1 + gate[i] * (1 - s));
  }
}

[[noreturn]] void refuse(DType dtype) {
  throw UsageError(fmt::format("swiglu needs f32 or f64, got {}", name_of(dtype)));
}

}  // namespace

void swiglu(Buffer y, Buffer gate, Buffer up) {
  switch (y.dtype) {
    case DType::kF32:
      return forward(y.as<float>(), gate.as<float>(), up.as<float>(), y.count);
    case DType::kF64:
      return forward(y.as<double>(), gate.as<double>(), up.as<double>(), y.count);
    default:
      refuse(y.dtype);
  }
}

void swiglu_backward(Buffer dgate, Buffer dup, Buffer dy, Buffer gate, Buffer up) {
  switch (dy.dtype) {
    case DType::kF32:
      return backward(dgate.as<float>(), dup.as<float>(), dy.as<float>(), gate.as<float>(),
                      up.as<float>(), dy.count);
    case DType::kF64:
      return backward(dgate.as<double>(), dup.as<double>(), dy.as<double>(), gate.as<double>(),
                      up.as<double>(), dy.count);
    default:
      refuse(dy.dtype);
  }
}

}  // namespace trireme
