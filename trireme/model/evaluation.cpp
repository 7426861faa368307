#include "trireme/model/evaluation.h"

#include <limits>

namespace trireme {

EvaluationSums& EvaluationSums::operator+=(const EvaluationSums& other) {
  Flat sums = flat();
  const Flat more = other.flat();
  for (std::size_t i = 0; i < kCount; ++i) sums[i] += more[i];
  return *this = of(sums);
}

EvaluationSums::Flat EvaluationSums::flat() const {
  return {samples, weight, loss, correct, values, y, y_squared, squared_error};
}

EvaluationSums EvaluationSums::of(const Flat& sums) {
  return {sums[0], sums[1], sums[2], sums[3], sums[4], sums[5], sums[6], sums[7]};
}

double EvaluationSums::mean_loss() const {
  return loss / weight;
}

double EvaluationSums::accuracy() const {
  return correct / weight;
}

double EvaluationSums::r2() const {
  const double total = y_squared - y * y / values;
  return total > 0 ? 1 - squared_error / total : std::numeric_limits<double>::quiet_NaN();
}

}  // namespace trireme
