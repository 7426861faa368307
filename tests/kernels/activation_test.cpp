// Against the formulas in long double, and their gradients against differences.

#include "trireme/kernels/activation.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "tests/kernels/targets.h"
#include "trireme/base/error.h"

namespace trireme {
namespace {

long double gelu_of(long double x) {
  constexpr long double kRoot = 0.797884560802865355879892119868763737L;  // sqrt(2 / pi)
  return x * (1 + std::tanh(kRoot * (x + 0.044715L * x * x * x))) / 2;
}

long double silu_of(long double x) {
  return x / (1 + std::exp(-x));
}

template <class Function>
long double derivative_of(const Function& f, long double x) {
  constexpr long double kStep = 1e-6L;
  return (f(x + kStep) - f(x - kStep)) / (2 * kStep);
}

// From where all is 0 to where all is x; 203 values: whole vectors and a rest.
template <class T>
std::vector<T> arguments() {
  std::vector<T> all;
  for (int i = -100; i <= 100; ++i) all.push_back(static_cast<T>(i) * T{0.13});
  all.push_back(T{-200});
  all.push_back(T{200});
  return all;
}

template <class T>
Buffer buffer(std::vector<T>& values) {
  return buffer_of(std::span<T>(values));
}

template <class T>
void check_gelu(double tolerance) {
  std::vector<T> x = arguments<T>(), y(x.size()), dx(x.size()), dy(x.size(), T{3});
  gelu(buffer(y), buffer(x));
  gelu_backward(buffer(dx), buffer(dy), buffer(x));
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double scale = std::fmax(1, std::fabs(x[i]));
    ASSERT_NEAR(y[i], static_cast<double>(gelu_of(x[i])), tolerance * scale) << x[i];
    ASSERT_NEAR(dx[i], 3 * static_cast<double>(derivative_of(gelu_of, x[i])),
                10 * tolerance * scale + 1e-10)
        << x[i];
  }
}

template <class T>
void check_swiglu(double tolerance) {
  std::vector<T> gate = arguments<T>(), up, y(gate.size()), dgate(y), dup(y), dy(y.size(), T{3});
  for (std::size_t i = 0; i < gate.size(); ++i) up.push_back(static_cast<T>(i % 7) - T{2.5});
  swiglu(buffer(y), buffer(gate), buffer(up));
  swiglu_backward(buffer(dgate), buffer(dup), buffer(dy), buffer(gate), buffer(up));
  for (std::size_t i = 0; i < y.size(); ++i) {
    const double scale = 4 * std::fmax(1, std::fabs(gate[i]));
    const double silu = static_cast<double>(silu_of(gate[i]));
    ASSERT_NEAR(y[i], silu * up[i], tolerance * scale) << gate[i];
    ASSERT_NEAR(dup[i], 3 * silu, 3 * tolerance * scale) << gate[i];
    ASSERT_NEAR(dgate[i], 3 * static_cast<double>(derivative_of(silu_of, gate[i])) * up[i],
                10 * tolerance * scale + 1e-10)
        << gate[i];
  }
}

TEST(Activation, GeluAndItsGradientAreThoseOfTheFormula) {
  on_every_instruction_set([] {
    check_gelu<float>(3e-7);
    check_gelu<double>(1e-15);
  });
}

TEST(Activation, SwigluAndItsGradientsAreThoseOfTheFormula) {
  on_every_instruction_set([] {
    check_swiglu<float>(3e-7);
    check_swiglu<double>(1e-15);
  });
}

TEST(Activation, DoesNotHideWhatIsNotANumber) {
  std::vector<float> x(9, std::numeric_limits<float>::quiet_NaN()), y(9), ones(9, 1);
  gelu(buffer(y), buffer(x));
  for (const float value : y) EXPECT_TRUE(std::isnan(value));
  gelu_backward(buffer(y), buffer(ones), buffer(x));
  for (const float value : y) EXPECT_TRUE(std::isnan(value));
  swiglu(buffer(y), buffer(x), buffer(ones));
  for (const float value : y) EXPECT_TRUE(std::isnan(value));
}

TEST(Activation, RefusesIntegers) {
  std::vector<std::int32_t> x(3);
  EXPECT_THROW(gelu(buffer(x), buffer(x)), UsageError);
}

}  // namespace
}  // namespace trireme
