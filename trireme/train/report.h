#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "trireme/comm/traffic.h"

namespace trireme {

/// What a run will do, before its first step.
struct RunDescription {
  std::string model;
  std::int64_t parameters = 0;
  std::int64_t samples = 0;             ///< of an epoch, over all ranks
  std::int64_t evaluation_samples = 0;  ///< held out
  int ranks = 1;
  std::string communication;  ///< of the ranks: "shared memory"
  int threads = 1;            ///< of libtorch, per rank
  std::string precision;      ///< of mixed precision, how matrices are multiplied; "": none
  int virtual_workers = 1;
  std::vector<std::int64_t> assignment;  ///< how many of them each rank computes
  std::int64_t first_step = 0;
  /// Strategy state that the checkpoint does not have; it starts from its initial values.
  std::vector<std::string> not_restored;
  std::int64_t steps = 0;  ///< where the run ends
  std::int64_t steps_per_epoch = 0;
  std::int64_t global_batch = 0;
  std::vector<std::string> columns;         ///< of a CSV file that are inputs
  std::vector<std::string> unused_columns;  ///< the others, each with the reason
  std::int64_t dropped_rows = 0;            ///< of the training file, with missing values
  std::int64_t trimmed_labels = 0;          ///< of the training file, with blanks around them
  std::string data_digest;                  ///< of the files of [data]; "": they are generated
  std::string digest_covers;                ///< DataDigest::covers
  std::int64_t tokens_per_sample = 0;       ///< 0: samples are no tokens
  /// Of tokens: floating-point operations of a sample in training, and those a second that the
  /// ranks reach in matrix products alone.
  double flops_per_sample = 0;
  double peak_flops = 0;
};

/// One step. Equal on all ranks but for times and traffic, which are this rank's. In a step that
/// groups of ranks make without each other, loss and norm are the group's.
struct StepReport {
  std::int64_t step = 0;  ///< steps that are done
  double epoch = 0;
  double loss = 0;  ///< mean over the weight of the step
  double lr = 0;
  std::optional<double> gradient_norm;  ///< in steps that are written to metrics.jsonl
  std::optional<double> loss_scale;     ///< in f16
  std::string skipped = {};             ///< why this step has updated nothing; "" if it has
  std::int64_t skipped_steps = 0;  ///< steps that have updated nothing, since the last such step
  double samples_per_second = 0;   ///< over all ranks, since the last such step
  // Seconds since the last such step.
  double data_seconds = 0;
  double compute_seconds = 0;
  double communication_seconds = 0;
  Traffic traffic;  ///< this rank's, since the last such step: Communicator::traffic()
};

/// Metrics of the whole evaluation set.
struct EvaluationReport {
  std::int64_t step = 0;
  std::int64_t samples = 0;
  double loss = 0;
  std::optional<double> accuracy;       ///< for classes
  std::optional<double> r2;             ///< for numbers; NaN if all targets are equal
  std::optional<double> perplexity;     ///< for tokens: exp(loss)
  std::optional<double> bits_per_byte;  ///< for tokens: of the text that they stand for
};

/// The result of a run.
struct RunSummary {
  std::int64_t steps = 0;
  bool interrupted = false;        ///< before the last step, by request or by max_time
  bool out_of_time = false;        ///< interrupted, and training.max_time has passed
  double seconds = 0;              ///< of training, evaluations included
  double samples_per_second = 0;   ///< over all ranks, evaluations not included
  double tokens_per_second = 0;    ///< the same for samples of tokens; 0 for others
  std::optional<double> loss;      ///< of the last step that updated anything; none: there was none
  std::int64_t skipped_steps = 0;  ///< that have updated nothing
  Traffic traffic;                 ///< of this rank in all steps
  std::optional<EvaluationReport> evaluation;  ///< the last
  std::string sample_text;  ///< that a model of tokens has written after its last step
  std::filesystem::path directory;
  /// Checkpoints and lines of metrics.jsonl that could not be written, each with the reason.
  std::vector<std::string> not_written;
  bool is_complete = true;  ///< false: the last checkpoint or lines of metrics.jsonl are missing
};

/// Receives what happens in a run, on every rank, and may ask the run to stop.
class Observer {
 public:
  virtual ~Observer() = default;
  virtual void on_start(const RunDescription&) {}
  virtual void on_step(const StepReport&) {}
  virtual void on_evaluation(const EvaluationReport&) {}
  virtual void on_checkpoint(const std::filesystem::path&) {}
  /// Something is wrong that does not end the run: a damaged checkpoint, a full disk.
  virtual void on_warning(const std::string&) {}
  /// Returns true if the run should end after the current step; an evaluation ends after the
  /// current batch, without a result. One rank is enough.
  virtual bool stop_requested() { return false; }
};

}  // namespace trireme
