#pragma once

#include <fmt/core.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <vector>

namespace bench {

/// What one call takes.
template <class Body>
double seconds_of(const Body& body) {
  const auto start = std::chrono::steady_clock::now();
  body();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

struct Quartiles {
  double low, median, high;
};

inline Quartiles quartiles_of(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const auto at = [&](double share) {
    return values[static_cast<std::size_t>(share * static_cast<double>(values.size() - 1) + 0.5)];
  };
  return {at(0.25), at(0.5), at(0.75)};
}

/// A line with the median and the quartiles, each times `factor`.
inline void print_row(const char* name, const std::vector<double>& values, double factor) {
  const Quartiles q = quartiles_of(values);
  fmt::print("{:<42} {:>9.3f}  ({:.3f} to {:.3f})\n", name, factor * q.median, factor * q.low,
             factor * q.high);
}

}  // namespace bench
