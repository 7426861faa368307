#include "examples/sparse_logistic/learner.h"

namespace trireme::examples {

Learner::Learner(server::Client& client, int keys_of_one, double lr)
    : client_(client), keys_of_one_(static_cast<std::size_t>(keys_of_one)), lr_(lr) {}

double Learner::learn(const Examples& examples, std::size_t first, std::size_t last) {
  index_.clear();
  index_.number_of(kBias);
  numbers_.clear();
  for (std::size_t k = first * keys_of_one_; k < last * keys_of_one_; ++k) {
    numbers_.push_back(index_.number_of(examples.keys[k]));
  }
  pull();
  const double loss = differentiate(std::span(examples.labels).subspan(first, last - first));
  push();
  return loss;
}

void Learner::pull() {
  weights_.resize(index_.keys().size());
  const server::TableValues wanted{"weights", buffer_of(std::span(weights_)), index_.keys()};
  client_.pull({&wanted, 1});
}

double Learner::differentiate(std::span<const std::uint8_t> labels) {
  gradients_.assign(weights_.size(), 0);
  double loss = 0;
  for (std::size_t i = 0; i < labels.size(); ++i) {
    const auto mine = std::span(numbers_).subspan(i * keys_of_one_, keys_of_one_);
    double score = weights_[0];
    for (const std::uint32_t number : mine) score += weights_[number];
    const double probability = sigmoid(score);
    loss += log_loss(probability, labels[i] != 0);
    const auto error = static_cast<float>(probability - labels[i]);
    gradients_[0] += error;
    for (const std::uint32_t number : mine) gradients_[number] += error;
  }
  return loss;
}

void Learner::push() {
  const server::Gradient gradient{"weights", buffer_of(std::span(gradients_)), index_.keys()};
  client_.push({&gradient, 1}, {.lr = lr_});
}

server::SparseTable weights_table(double l1, double beta) {
  return {.name = "weights", .width = 1, .optimizer = {.name = "ftrl", .beta = beta, .l1 = l1}};
}

}  // namespace trireme::examples
