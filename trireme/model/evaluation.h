#pragma once

#include <array>
#include <cstddef>

namespace trireme {

/// Sums over the samples of an evaluation set. Each sum is additive: ranks that evaluate a part
/// each add their sums and all get the metrics of the whole set, not a mean of means:
///
///     EvaluationSums sums;                                        // this rank's part
///     for (...) sums += loss.evaluate(model.forward(x), y);
///     auto flat = sums.flat();
///     world.all_reduce(buffer_of(std::span(flat))).wait();
///     const double r2 = EvaluationSums::of(flat).r2();            // of the whole set
struct EvaluationSums {
  static constexpr std::size_t kCount = 8;
  using Flat = std::array<double, kCount>;

  double samples = 0;
  double weight = 0;         ///< samples, or tokens that count
  double loss = 0;           ///< sum of the losses of the samples or tokens
  double correct = 0;        ///< samples or tokens whose class was predicted; 0 for numbers
  double values = 0;         ///< how many target numbers: samples * width; 0 for classes
  double y = 0;              ///< sum of y - shift over the target numbers
  double y_squared = 0;      ///< sum of (y - shift)^2
  double squared_error = 0;  ///< sum of (output - y)^2

  EvaluationSums& operator+=(const EvaluationSums& other);

  Flat flat() const;
  static EvaluationSums of(const Flat& sums);

  double mean_loss() const;
  double accuracy() const;
  /// R^2 = 1 - sum (output - y)^2 / sum (y - mean y)^2, the last sum being
  /// sum (y - shift)^2 - (sum (y - shift))^2 / values. Targets of several columns count as one long
  /// column. NaN if all targets are equal, because R^2 is not defined then.
  double r2() const;
};

}  // namespace trireme
