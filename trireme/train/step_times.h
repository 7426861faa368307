#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "trireme/comm/communicator.h"
#include "trireme/config/config.h"
#include "trireme/train/report.h"

namespace trireme {

struct StepTimesOptions {
  std::int64_t steps =
      0;  ///< to measure; 0: as many as fit in `seconds`, for all contenders together
  double seconds = 5;
};

/// Where the time of a step goes. Seconds: medians over rounds in which the contenders take turns,
/// of the slowest rank; the parts of a step are means over the ranks.
struct StepTimes {
  RunDescription run;
  std::int64_t rounds = 0;
  std::int64_t steps_per_round = 0;

  double step = 0;
  double data = 0;           ///< waiting for samples
  double compute = 0;        ///< forward, backward, optimizer
  double communication = 0;  ///< not hidden by backward, and waiting for slower ranks
  /// Between the first rank and the last one whose gradients are complete; none over several hosts,
  /// whose clocks differ.
  std::optional<double> arrival_distance;

  double independent = 0;          ///< the bound: the same ranks, each training alone on its share
  double step_over_bound = 0;      ///< median of the ratios of the rounds
  double communication_alone = 0;  ///< a step's communication by itself

  double samples_per_second() const { return static_cast<double>(run.global_batch) / step; }

  /// Returns how much of communication_alone is hidden in the step, in [0, communication_alone].
  double hidden() const;
};

/// Times steps of the run that `config` describes. Collective. They take turns with steps in which
/// every rank trains a model of its own on its share of the batch, without communicating, and with
/// the communication of a step by itself. Writes no file and keeps no model. Throws as train()
/// does.
StepTimes measure_steps(const Config& config, Communicator& world, StepTimesOptions options = {});

}  // namespace trireme
