#pragma once

#include <cstdint>
#include <memory>

#include "examples/matrix_factorization/ratings.h"
#include "trireme/comm/communicator.h"
#include "trireme/server/model_schema.h"

namespace trireme::examples {

struct FactorizationOptions {
  int factors = 4;  ///< of each student and lecturer; 0: biases alone
  int epochs = 60;
  int batch = 128;  ///< ratings of one push
  double lr = 0.15;
  double bias_penalty = 8;
  double factor_penalty = 18;
  int shards = 1;  ///< servers
  server::Consistency consistency;
};

/// rating ~ mean + b_s + b_d + p_s . q_d: a row [bias, factors] for each student and each lecturer,
/// in two sparse tables on servers that rank 0 runs. Minimizes
///
///     sum of (prediction - rating)^2 + bias_penalty * sum of b^2 + factor_penalty * sum of p^2,
///     q^2
///
/// by Adagrad (Duchi et al. 2011) over batches: each rank takes its share of the ratings, pulls the
/// rows of a batch and pushes their gradients; the rate falls to zero.
class Factorization {
 public:
  /// Trains; collective. Only rank 0 has rows to predict with.
  Factorization(Communicator& world, const Ratings& ratings, const FactorizationOptions& options);

  double predict(const Rating& rating) const;

 private:
  std::int64_t width_;
  double mean_;
  std::vector<float> students_;  // rows from 1 on
  std::vector<float> lecturers_;
};

}  // namespace trireme::examples
