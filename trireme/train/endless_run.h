#pragma once

#include <cstdint>

#include "trireme/train/training_run.h"

namespace trireme {

/// A run that goes on until nobody asks for its next step, learns nothing and reports nothing on
/// the way: for those who measure steps. Writes no file.
class EndlessRun final : private Observer {
 public:
  /// Collective.
  EndlessRun(const Config& config, Communicator& world);

  void step() { run_.step(step_++); }
  void communicate() { run_.communicate(); }
  RunDescription describe() const { return run_.describe(); }

  /// Of all steps so far.
  const StepReport& times() const { return times_; }

 private:
  void on_step(const StepReport& report) override { times_ = report; }

  Config config_;
  StepReport times_;
  TrainingRun run_;
  std::int64_t step_ = 0;
};

/// What `rank` computes in a step of `config`, as a run of its own on one rank.
Config share_of(Config config, int rank, int ranks);

}  // namespace trireme
