#include "examples/sparse_logistic/zipf.h"

#include <algorithm>
#include <cmath>

namespace trireme::examples {

Zipf::Zipf(std::uint64_t n, double exponent)
    : n_(n),
      exponent_(exponent),
      lowest_(integral(1.5) - 1),
      highest_(integral(static_cast<double>(n) + 0.5)) {}

double Zipf::integral(double x) const {
  return std::pow(x, 1 - exponent_) / (1 - exponent_);
}

double Zipf::inverse(double y) const {
  return std::pow(y * (1 - exponent_), 1 / (1 - exponent_));
}

std::uint64_t Zipf::draw(const CounterRandom& random, std::uint64_t& index) const {
  for (;;) {
    const double y = lowest_ + random.uniform(index++) * (highest_ - lowest_);
    const double k = std::clamp(std::round(inverse(y)), 1.0, static_cast<double>(n_));
    // Under the hat, between the middle of this bar and the next.
    if (y >= integral(k + 0.5) - std::pow(k, -exponent_)) return static_cast<std::uint64_t>(k);
  }
}

}  // namespace trireme::examples
