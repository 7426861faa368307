#pragma once

#include <cstdint>

#include "trireme/base/random.h"

namespace trireme::examples {

/// Draws 1 to n with a probability that is proportional to k^-exponent, in constant memory: by
/// rejection-inversion (Hörmann and Derflinger 1996, "Rejection-inversion to generate variates from
/// monotone discrete distributions"). exponent > 0 and not 1.
class Zipf {
 public:
  Zipf(std::uint64_t n, double exponent);

  /// A pure function of `random` and `index`, which is advanced past the numbers that it used.
  std::uint64_t draw(const CounterRandom& random, std::uint64_t& index) const;

 private:
  double integral(double x) const;  // of the hat x^-exponent
  double inverse(double y) const;

  std::uint64_t n_;
  double exponent_;
  double lowest_;
  double highest_;
};

}  // namespace trireme::examples
