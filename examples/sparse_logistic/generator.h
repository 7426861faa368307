#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "examples/sparse_logistic/zipf.h"

namespace trireme::examples {

/// Examples like words in a text: `keys_of_one` keys each, Zipf-distributed over 1 to `keys` (a key
/// that occurs twice counts twice), and a label drawn from a logistic model. The weights of the
/// model are a function of their keys, and most of them are zero.
struct GeneratorOptions {
  std::uint64_t keys = 10'000'000;
  int keys_of_one = 100;
  double exponent = 1.1;
  double share_of_weights =
      0.2;  ///< part of the weights that is not zero; these are normal with deviation 0.5
  double bias = -1;
  std::uint64_t seed = 1;
};

struct Examples {
  std::vector<std::uint64_t> keys;  ///< [examples, keys_of_one]
  std::vector<std::uint8_t> labels;
  std::vector<double> probabilities;  ///< of label 1, by the generating model
};

/// Example i is a pure function of (seed, i), so that each rank generates its own.
class Generator {
 public:
  explicit Generator(const GeneratorOptions& options);

  /// Examples first, first + stride, ...
  Examples make(std::uint64_t first, std::uint64_t stride, std::size_t count) const;

  /// The weight of a key in the model that labels are drawn from.
  double weight(std::uint64_t key) const;

 private:
  GeneratorOptions options_;
  Zipf zipf_;
};

/// 1 / (1 + exp(-score)).
double sigmoid(double score);

/// -log of the predicted probability of the label.
double log_loss(double probability, bool label);

}  // namespace trireme::examples
