#pragma once

#include <array>
#include <cstddef>

namespace trireme {

/// Sums over the samples of an evaluation set. Every one is additive, so that ranks which each
/// evaluate a part add theirs up and all get the metrics of the whole, not a mean of means:
///
///     EvaluationSums sums;                                        // this rank's part
///     for (...) sums += loss.evaluate(model.forward(x), y);
///     auto flat = sums.flat();
///     world.all_reduce(buffer_of(std::span(flat))).wait();
///     const double r2 = EvaluationSums::of(flat).r2();            // of the whole set
struct EvaluationSums {
  static constexpr std::size_t kCount = 7;
  using Flat = std::array<double, kCount>;

  double samples = 0;
  double loss = 0;           ///< of the samples' losses
  double correct = 0;        ///< samples whose class was named; 0 for numbers
  double values = 0;         ///< how many target numbers: samples * width; 0 for classes
  double y = 0;              ///< sum of y over the target numbers
  double y_squared = 0;      ///< sum of y^2
  double squared_error = 0;  ///< sum of (output - y)^2

  EvaluationSums& operator+=(const EvaluationSums& other);

  Flat flat() const;
  static EvaluationSums of(const Flat& sums);

  double mean_loss() const;
  double accuracy() const;
  /// R^2 = 1 - sum (output - y)^2 / sum (y - mean y)^2, the last sum being
  /// sum y^2 - (sum y)^2 / values. Targets of several columns count as one long column.
  double r2() const;
};

}  // namespace trireme
