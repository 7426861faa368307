#pragma once

#include <cstdint>

#include "trireme/config/config.h"

namespace trireme {

/// After which steps a run evaluates, saves a checkpoint and writes metrics: a pure function of the
/// number of steps that are done. Everything is due after the last step. Where the best checkpoints
/// are kept, each one is evaluated.
class Due {
 public:
  /// `evaluates`: the run has samples to evaluate on; without them no evaluation is due.
  Due(const Config& config, std::int64_t steps_per_epoch, std::int64_t last_step, bool evaluates);

  bool evaluation(std::int64_t done) const;
  bool checkpoint(std::int64_t done) const;
  bool metrics(std::int64_t done) const;

 private:
  bool is_due(std::int64_t done, std::int64_t every) const;

  std::int64_t evaluation_every_;  // steps; 0: after the last step only
  std::int64_t checkpoint_every_;
  std::int64_t metrics_every_;
  std::int64_t last_step_;
  bool evaluates_;
  bool evaluates_checkpoints_;  // to find the best
};

}  // namespace trireme
