#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "tests/formats/temporary_folder.h"
#include "tests/train/words.h"
#include "trireme/train/train.h"

namespace trireme::test {

/// Keeps what one rank's observer was told, and asks once to stop.
class Recorder final : public Observer {
 public:
  /// `stop_in_step`: the step, counted from 1, in which stop_requested() answers true; 0: none.
  explicit Recorder(std::int64_t stop_in_step = 0) : stop_in_step_(stop_in_step) {}

  void on_start(const RunDescription& description) override;
  void on_step(const StepReport& report) override { steps.push_back(report); }
  void on_evaluation(const EvaluationReport& report) override { evaluations.push_back(report); }
  void on_checkpoint(const std::filesystem::path& path) override { checkpoints.push_back(path); }
  void on_warning(const std::string& text) override { warnings.push_back(text); }
  bool stop_requested() override;

  RunDescription start;
  bool has_started = false;
  int threads = 0;  ///< of libtorch, on this rank's thread, at the start
  std::vector<StepReport> steps;
  std::vector<EvaluationReport> evaluations;
  std::vector<std::filesystem::path> checkpoints;
  std::vector<std::string> warnings;

 private:
  std::int64_t stop_in_step_;
};

/// How a run went, on each rank.
struct Outcome {
  std::vector<RunSummary> summaries;
  std::vector<Recorder> ranks;
};

/// Which rank asks to stop, and in which step.
struct StopRequest {
  int rank = 0;  ///< -1: each, when it gets there
  std::int64_t step = 0;
};

/// Trains by train() on ranks that are threads of this process, in a folder with a directory for
/// each run.
///
/// Built-in models have generators of their own for dropout. Modules and TorchScript draw from
/// libtorch's one generator, which all threads of a process share, so that their bits depend on how
/// threads interleave.
class Runs {
 public:
  /// `words` go before those of every run. Without any, runs learn a linear model of 7 features
  /// from 180 samples by adam: 40 steps of 24 samples on 12 virtual workers.
  explicit Runs(Words words = {});

  /// From now on so many ranks share memory, hosts being full but for the last; 0: all ranks.
  void set_ranks_a_host(int ranks) { ranks_a_host_ = ranks; }

  /// Trains `run` from its beginning. Throws the root cause of a failure.
  Outcome train(const std::string& run, int ranks, const Words& words = {}, StopRequest stop = {});
  /// Continues `run` from its newest checkpoint, or from that of `step`.
  Outcome resume(const std::string& run, int ranks, const Words& words = {}, StopRequest stop = {},
                 std::optional<std::int64_t> step = std::nullopt);
  /// The same, whether or not its data has changed.
  Outcome resume_on_changed_data(const std::string& run, int ranks, const Words& words = {});
  /// Trains a run that fails, and returns the error of each rank, with its kind before it where it
  /// is a DivergedError: "diverged: ".
  std::vector<std::string> errors(const std::string& run, int ranks, const Words& words = {});

  /// The configuration of a run.
  Config config(const std::string& run, const Words& words = {}) const;

  /// Makes `copy` the directory of a run that ended after the checkpoint of step `step` of `run`.
  void copy_until(const std::string& run, const std::string& copy, std::int64_t step);

  std::filesystem::path operator/(const std::string& name) const { return folder_.path() / name; }
  const TemporaryFolder& folder() const { return folder_; }

  /// The bytes of model.safetensors.
  std::string model(const std::string& run) const;
  /// The tensors in it, by name.
  std::map<std::string, at::Tensor> tensors(const std::string& run) const;
  /// The steps of which a run keeps checkpoints.
  std::set<std::int64_t> checkpoints(const std::string& run) const;
  /// The names of the tensors in the checkpoint of a step.
  std::set<std::string> tensors_of_checkpoint(const std::string& run, std::int64_t step) const;
  /// The lines of metrics.jsonl.
  std::vector<std::string> metrics(const std::string& run) const;

 private:
  void on_ranks(int ranks, const std::function<void(Communicator&)>& body) const;
  Outcome run(const Config& config, int ranks, const TrainOptions& options, StopRequest stop);

  TemporaryFolder folder_{folder_in_memory()};
  Words words_;
  int ranks_a_host_ = 0;
};

}  // namespace trireme::test
