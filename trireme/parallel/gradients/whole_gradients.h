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

  /// Takes away each grad() that reduce() has set: its memory ends here.
  ~WholeGradients();
  WholeGradients(const WholeGradients&) = delete;
  WholeGradients& operator=(const WholeGradients&) = delete;

  std::span<Shard> shards() { return shards_; }

  GradientSink& begin(const StepShape& shape, double divisor);
  /// Collective: sets grad() of each parameter that has a gradient.
  GradientReport reduce();
  double norm();
  /// Gives the model's buffers their new values, or forgets the step.
  void end_step(bool is_skipped) { gradients_.end_step(is_skipped); }

  bool stop() const { return gradients_.stop(); }
  std::vector<Strategy::State> state() { return gradients_.state(); }

 private:
  StepGradients gradients_;
  std::vector<at::Tensor> results_;  // what grad() becomes
  std::vector<Shard> shards_;
  std::vector<double> squares_;
};

}  // namespace trireme
