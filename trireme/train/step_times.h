#pragma once

#include <cstdint>
#include <string>

#include "trireme/comm/communicator.h"
#include "trireme/config/config.h"
#include "trireme/train/report.h"

namespace trireme {

struct StepTimesOptions {
  std::int64_t steps = 0;  ///< to measure; 0: as many as fit in `seconds`, all contenders together
  double seconds = 5;
};

/// Where the time of a configuration's step goes. Times in seconds, medians over rounds in which
/// the contenders took turns; of the slowest rank, or, for the parts of a step, means over ranks.
struct StepTimes {
  RunDescription run;
  std::int64_t rounds = 0;
  std::int64_t steps_per_round = 0;

  double step = 0;
  double data = 0;           ///< waiting for it
  double compute = 0;        ///< forward, backward, optimizer
  double communication = 0;  ///< what backward could not hide, and waiting for slower ranks

  double independent = 0;          ///< the bound: the same ranks, each training alone on its share
  double step_over_bound = 0;      ///< median of the rounds' own ratios
  double communication_alone = 0;  ///< a step's communication with nothing beside it

  double samples_per_second() const { return static_cast<double>(run.global_batch) / step; }

  /// How much of communication_alone does not show in the step, in [0, communication_alone].
  double hidden() const;
};

/// Trains a few steps of what `config` describes. Collective. In turn with them every rank trains
/// a model of its own on its share of the batch, without communicating, and the ranks communicate
/// what a step does without training. Writes no file; nothing is learned that stays.
/// Throws as train() does.
StepTimes measure_steps(const Config& config, Communicator& world, StepTimesOptions options = {});

}  // namespace trireme
