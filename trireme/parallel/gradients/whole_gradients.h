#pragma once

#include <span>
#include <vector>

#include "trireme/parallel/gradients/step_gradients.h"

namespace trireme {

/// The part that strategies have in common whose ranks all hold the whole model: gradients that are
/// all-reduced over `ranks`, one shard for each parameter, and grad().
class WholeGradients {
 public:
  /// Collective. As StepGradients.
  WholeGradients(Communicator& ranks, const NamedTensors& model, const StrategyOptions& options);

  std::span<Shard> shards() { return shards_; }

  GradientSink& begin(const StepShape& shape, double divisor);
  /// Collective: sets grad() of each parameter that has a gradient.
  GradientReport reduce();
  double norm();

  bool stop() const { return gradients_.stop(); }
  std::vector<Strategy::State> state() { return gradients_.state(); }

 private:
  StepGradients gradients_;
  std::vector<at::Tensor> results_;  // what grad() becomes
  std::vector<Shard> shards_;
  std::vector<double> squares_;
};

}  // namespace trireme
