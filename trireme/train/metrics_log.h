#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>

#include "trireme/base/files.h"
#include "trireme/train/report.h"

namespace trireme {

/// metrics.jsonl: one JSON object a line, either of a step or of an evaluation, the single truth
/// about how a run went.
///
///     {"step":50,"epoch":0.11,"loss":0.83,"lr":0.05,"gradient_norm":1.9,"samples_per_second":...}
///     {"step":469,"evaluation":{"samples":10000,"loss":0.41,"accuracy":0.853}}
class MetricsLog {
 public:
  /// Goes on with the file at `path`, of which lines of steps after `last_step` are dropped: they
  /// will come again. Throws DataError.
  MetricsLog(const std::filesystem::path& path, std::int64_t last_step,
             Files& files = real_files());

  void write(const StepReport& report);
  void write(const EvaluationReport& report);

 private:
  void line(const std::string& text);

  std::unique_ptr<File> file_;
};

}  // namespace trireme
