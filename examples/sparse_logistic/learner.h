#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "examples/sparse_logistic/generator.h"
#include "examples/sparse_logistic/key_index.h"
#include "trireme/server/client.h"

namespace trireme::examples {

/// A worker of logistic regression over weights on servers, in the sparse table "weights" of width
/// 1 that weights_table() declares. It pulls the weights of a batch's different keys and pushes
/// their gradients, summed over the batch.
class Learner {
 public:
  /// The key of the bias, which every example has.
  static constexpr std::uint64_t kBias = 0;

  Learner(server::Client& client, int keys_of_one, double lr);

  /// Learns examples [first, last) and returns the sum of their log losses, each taken before the
  /// example was learned.
  double learn(const Examples& examples, std::size_t first, std::size_t last);

 private:
  void pull();
  double differentiate(std::span<const std::uint8_t> labels);
  void push();

  server::Client& client_;
  std::size_t keys_of_one_;
  double lr_;
  KeyIndex index_;
  std::vector<std::uint32_t> numbers_;  // of each example's keys
  std::vector<float> weights_;
  std::vector<float> gradients_;
};

/// FTRL-Proximal (McMahan et al. 2013), whose L1 norm makes weights zero.
server::SparseTable weights_table(double l1, double beta);

}  // namespace trireme::examples
