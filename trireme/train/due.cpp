#include "trireme/train/due.h"

namespace trireme {

Due::Due(const Config& config, std::int64_t steps_per_epoch, std::int64_t last_step, bool evaluates)
    : evaluation_every_(config.evaluation.every_steps > 0
                            ? config.evaluation.every_steps
                            : config.evaluation.every_epochs * steps_per_epoch),
      checkpoint_every_(config.checkpoint.every_steps),
      metrics_every_(config.metrics.every_steps),
      last_step_(last_step),
      evaluates_(evaluates),
      evaluates_checkpoints_(config.checkpoint.keep_best > 0) {}

bool Due::evaluation(std::int64_t done) const {
  if (!evaluates_) return false;
  return is_due(done, evaluation_every_) || (evaluates_checkpoints_ && checkpoint(done));
}

bool Due::checkpoint(std::int64_t done) const {
  return is_due(done, checkpoint_every_);
}

bool Due::metrics(std::int64_t done) const {
  return is_due(done, metrics_every_);
}

bool Due::is_due(std::int64_t done, std::int64_t every) const {
  return done == last_step_ || (every > 0 && done % every == 0);
}

}  // namespace trireme
