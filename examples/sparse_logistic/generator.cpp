#include "examples/sparse_logistic/generator.h"

#include <algorithm>
#include <cmath>

namespace trireme::examples {

Generator::Generator(const GeneratorOptions& options)
    : options_(options), zipf_(options.keys, options.exponent) {}

double Generator::weight(std::uint64_t key) const {
  const CounterRandom random(mix_seed(options_.seed, 1), key);
  return random.uniform(0) < options_.share_of_weights ? 0.5 * random.normal(1) : 0;
}

Examples Generator::make(std::uint64_t first, std::uint64_t stride, std::size_t count) const {
  Examples made;
  for (std::size_t i = 0; i < count; ++i) {
    const CounterRandom random(mix_seed(options_.seed, 2), first + i * stride);
    std::uint64_t index = 1;
    double score = options_.bias;
    for (int k = 0; k < options_.keys_of_one; ++k) {
      made.keys.push_back(zipf_.draw(random, index));
      score += weight(made.keys.back());
    }
    made.probabilities.push_back(sigmoid(score));
    made.labels.push_back(random.uniform(0) < made.probabilities.back() ? 1 : 0);
  }
  return made;
}

double sigmoid(double score) {
  return 1 / (1 + std::exp(-score));
}

double log_loss(double probability, bool label) {
  return -std::log(std::max(label ? probability : 1 - probability, 1e-15));
}

}  // namespace trireme::examples
