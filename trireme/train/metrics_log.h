#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>

#include "trireme/base/files.h"
#include "trireme/train/report.h"

namespace trireme {

/// metrics.jsonl, the record of a run: one JSON object a line, of a step or of an evaluation.
///
///     {"step":50,"epoch":0.11,"loss":0.83,"lr":0.05,"gradient_norm":1.9,"samples_per_second":...}
///     {"step":469,"evaluation":{"samples":10000,"loss":0.41,"accuracy":0.853}}
class MetricsLog {
 public:
  /// Appends to the file at `path`, after removing the lines of steps after `last_step`, which the
  /// run will make again. Throws DataError.
  MetricsLog(const std::filesystem::path& path, std::int64_t last_step, Files& files);

  /// Throws DataError; lines that follow are whole.
  void write(const StepReport& report);
  void write(const EvaluationReport& report);

 private:
  void line(const std::string& text);

  std::unique_ptr<File> file_;
  bool is_torn_ = false;  // the last line may lack its end
};

}  // namespace trireme
