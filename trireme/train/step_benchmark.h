#pragma once

#include <utility>
#include <vector>

#include "trireme/train/trainer.h"

namespace trireme {

/// Times the steps of a trainer that learns nothing: each step computes and communicates all that a
/// training step does, with a learning rate that changes no parameter. Writes no file.
class StepBenchmark {
 public:
  /// Collective.
  StepBenchmark(Config config, const plan::RunPlan& plan, Communicator& world);

  /// Makes one step. Collective.
  void step();

  /// The communication of a step by itself. Collective.
  void communicate() { trainer_.communicate(); }

  /// The seconds of all steps so far.
  struct Times {
    double data = 0;
    double compute = 0;
    double communication = 0;
  };
  const Times& times() const { return times_; }

  /// TrainedStep::arrived of the steps since the last call.
  std::vector<double> take_arrivals() { return std::exchange(arrivals_, {}); }

  RunDescription describe() const { return trainer_.describe(); }

  Trainer& trainer() { return trainer_; }

 private:
  Trainer trainer_;
  Times times_;
  std::vector<double> arrivals_;
};

/// Makes the benchmark of what `rank` computes in a step of `config`, whose plan is `plan`, without
/// communicating. `alone`: a world of one rank, which must outlive the benchmark.
StepBenchmark benchmark_of_share(Config config, const plan::RunPlan& plan, int rank,
                                 Communicator& alone);

}  // namespace trireme
