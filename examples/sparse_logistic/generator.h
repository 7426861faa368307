#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "examples/sparse_logistic/zipf.h"

namespace trireme::examples {

/// Examples as of words in a text: `keys_of_one` keys each, Zipf-distributed over 1 to `keys`, one
/// that comes twice counting twice; and a label drawn from a logistic model whose weights are a
/// function of their keys, most of them zero.
struct GeneratorOptions {
  std::uint64_t keys = 10'000'000;
  int keys_of_one = 100;
  double exponent = 1.1;
  double share_of_weights = 0.2;  ///< that are not zero, normal with deviation 0.5
  double bias = -1;
  std::uint64_t seed = 1;
};

struct Examples {
  std::vector<std::uint64_t> keys;  ///< [examples, keys_of_one]
  std::vector<std::uint8_t> labels;
  std::vector<double> probabilities;  ///< that the label is 1, as the generating model has it
};

/// Example i is a pure function of (seed, i), so that ranks make their own.
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

/// -log of the probability that was given to what came.
double log_loss(double probability, bool label);

}  // namespace trireme::examples
