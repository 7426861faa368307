#include "tests/examples/least_squares.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <sstream>
#include <stdexcept>

#include "trireme/base/random.h"
#include "trireme/formats/safetensors.h"

namespace trireme::test {

namespace {

using Numbers = std::vector<long double>;

std::vector<std::string> fields_of(const std::string& line) {
  std::vector<std::string> fields;
  std::istringstream in(line);
  for (std::string field; std::getline(in, field, ',');) fields.push_back(field);
  return fields;
}

struct Moments {
  long double mean = 0;
  long double deviation = 0;
};

template <class At>
Moments moments(std::size_t count, At at) {
  const auto n = static_cast<long double>(count);
  Moments m;
  for (std::size_t i = 0; i < count; ++i) m.mean += at(i) / n;
  for (std::size_t i = 0; i < count; ++i) m.deviation += std::pow(at(i) - m.mean, 2) / n;
  m.deviation = std::sqrt(m.deviation);
  return m;
}

// Solves a z = b for a symmetric positive definite a, which becomes its lower factor.
Numbers solve(std::vector<Numbers> a, Numbers b) {
  const std::size_t n = b.size();
  for (std::size_t j = 0; j < n; ++j) {
    for (std::size_t k = 0; k < j; ++k) a[j][j] -= a[j][k] * a[j][k];
    if (a[j][j] <= 0) throw std::runtime_error("the columns depend on each other");
    a[j][j] = std::sqrt(a[j][j]);
    for (std::size_t i = j + 1; i < n; ++i) {
      for (std::size_t k = 0; k < j; ++k) a[i][j] -= a[i][k] * a[j][k];
      a[i][j] /= a[j][j];
    }
  }
  for (std::size_t i = 0; i < n; ++i) {
    for (std::size_t k = 0; k < i; ++k) b[i] -= a[i][k] * b[k];
    b[i] /= a[i][i];
  }
  for (std::size_t i = n; i-- > 0;) {
    for (std::size_t k = i + 1; k < n; ++k) b[i] -= a[k][i] * b[k];
    b[i] /= a[i][i];
  }
  return b;
}

std::vector<double> numbers_of(const SafetensorsFile& file, const std::string& name) {
  const TensorInfo& info = file.info(name);
  const auto count = static_cast<std::size_t>(info.count);
  std::vector<double> values(count);
  if (info.dtype == DType::kF64) {
    file.read(name, buffer_of(std::span(values)));
  } else {
    std::vector<float> narrow(count);
    file.read(name, buffer_of(std::span(narrow)));
    std::ranges::copy(narrow, values.begin());
  }
  return values;
}

std::vector<double> parameters_of(const LinearModel& model) {
  std::vector<double> all = model.weight;
  all.push_back(model.bias);
  return all;
}

}  // namespace

Samples read_table(const std::filesystem::path& path, const std::string& target) {
  std::ifstream in(path);
  std::string line;
  std::getline(in, line);
  const std::vector<std::string> names = fields_of(line);
  Samples samples;
  while (std::getline(in, line)) {
    const std::vector<std::string> fields = fields_of(line);
    Numbers row;
    for (std::size_t j = 0; j < names.size(); ++j) {
      (names[j] == target ? samples.y : row).push_back(std::stold(fields.at(j)));
    }
    samples.x.push_back(std::move(row));
  }
  return samples;
}

Samples generated_samples(std::int64_t samples, std::int64_t features, double noise,
                          std::uint64_t seed) {
  const CounterRandom model(mix_seed(seed, 0));
  Samples all;
  for (std::int64_t i = 0; i < samples; ++i) {
    const CounterRandom random(mix_seed(seed, 1), static_cast<std::uint64_t>(i));
    long double y = model.normal(0) + noise * random.normal(0);
    Numbers row;
    for (std::uint64_t j = 1; j <= static_cast<std::uint64_t>(features); ++j) {
      row.push_back(random.normal(j));
      y += model.normal(j) * row.back();
    }
    all.x.push_back(std::move(row));
    all.y.push_back(y);
  }
  return all;
}

Samples standardized(Samples samples, bool target) {
  const std::size_t count = samples.y.size();
  for (std::size_t j = 0; j < samples.x.front().size(); ++j) {
    const Moments m = moments(count, [&](std::size_t i) { return samples.x[i][j]; });
    for (Numbers& row : samples.x) row[j] = (row[j] - m.mean) / m.deviation;
  }
  if (target) {
    const Moments m = moments(count, [&](std::size_t i) { return samples.y[i]; });
    for (long double& y : samples.y) y = (y - m.mean) / m.deviation;
  }
  return samples;
}

LinearModel least_squares(const Samples& samples) {
  const std::size_t n = samples.x.front().size() + 1;
  std::vector<Numbers> a(n, Numbers(n, 0));
  Numbers b(n, 0);
  for (std::size_t s = 0; s < samples.y.size(); ++s) {
    Numbers row = samples.x[s];
    row.push_back(1);
    for (std::size_t i = 0; i < n; ++i) {
      for (std::size_t j = 0; j < n; ++j) a[i][j] += row[i] * row[j];
      b[i] += row[i] * samples.y[s];
    }
  }
  const Numbers solution = solve(std::move(a), std::move(b));
  LinearModel model{.weight = {solution.begin(), solution.end() - 1}};
  model.bias = static_cast<double>(solution.back());
  return model;
}

LinearModel trained_model(const std::filesystem::path& run) {
  const SafetensorsFile file(run / "model.safetensors");
  return {numbers_of(file, "weight"), numbers_of(file, "bias").at(0)};
}

LinearModel in_own_units(const LinearModel& model, const std::filesystem::path& run) {
  const SafetensorsFile file(run / "standardization.safetensors");
  const std::vector<double> mean = numbers_of(file, "mean");
  const std::vector<double> deviation = numbers_of(file, "deviation");
  const bool target = file.contains("target_mean");
  const double target_mean = target ? numbers_of(file, "target_mean").at(0) : 0;
  const double target_deviation = target ? numbers_of(file, "target_deviation").at(0) : 1;
  LinearModel own{.weight = model.weight, .bias = model.bias * target_deviation + target_mean};
  for (std::size_t j = 0; j < own.weight.size(); ++j) {
    own.weight[j] *= target_deviation / deviation.at(j);
    own.bias -= own.weight[j] * mean.at(j);
  }
  return own;
}

double distance(const LinearModel& model, const LinearModel& wanted) {
  const std::vector<double> got = parameters_of(model), right = parameters_of(wanted);
  double difference = 0, largest = 0;
  for (std::size_t i = 0; i < right.size(); ++i) {
    difference = std::max(difference, std::abs(got.at(i) - right[i]));
    largest = std::max(largest, std::abs(right[i]));
  }
  return difference / largest;
}

double distance_by_parameter(const LinearModel& model, const LinearModel& wanted) {
  const std::vector<double> got = parameters_of(model), right = parameters_of(wanted);
  double largest = 0;
  for (std::size_t i = 0; i < right.size(); ++i) {
    largest = std::max(largest, std::abs(got.at(i) - right[i]) / std::abs(right[i]));
  }
  return largest;
}

}  // namespace trireme::test
