#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace trireme::test {

/// Rows of features and one number each to be predicted from them.
struct Samples {
  std::vector<std::vector<long double>> x;
  std::vector<long double> y;
};

/// y = weight . x + bias.
struct LinearModel {
  std::vector<double> weight;
  double bias = 0;
};

/// Of a CSV file of numbers with a header and without quotes: every column but the target, in the
/// order of the file.
Samples read_table(const std::filesystem::path& path, const std::string& target);

/// What format = "linear_model" generates, written down a second time: sample i has the features
/// normal(j + 1) of stream i and the noise normal(0).
Samples generated_samples(std::int64_t samples, std::int64_t features, double noise,
                          std::uint64_t seed);

/// Features, and where asked for the target, to mean 0 and population variance 1.
Samples standardized(Samples samples, bool target);

/// The closed form: the normal equations of [x, 1], solved by Cholesky's factors in long double.
LinearModel least_squares(const Samples& samples);

/// The weights of a run with model.name = "linear", for the features as the model saw them.
LinearModel trained_model(const std::filesystem::path& run);

/// The same for features and targets in their own units: standardization.safetensors undone.
LinearModel in_own_units(const LinearModel& model, const std::filesystem::path& run);

/// The largest difference of two parameters over the largest parameter of `wanted`.
double distance(const LinearModel& model, const LinearModel& wanted);

/// The largest difference of two parameters over that parameter.
double distance_by_parameter(const LinearModel& model, const LinearModel& wanted);

}  // namespace trireme::test
