#include "trireme/train/metrics_log.h"

#include <nlohmann/json.hpp>
#include <sstream>

#include "trireme/base/files.h"

namespace trireme {

namespace {

using Json = nlohmann::ordered_json;

std::string lines_up_to(const std::filesystem::path& path, std::int64_t last_step, Files& files) {
  std::istringstream in(read_file(path, files));
  std::string kept;
  for (std::string line; std::getline(in, line);) {
    const auto object = nlohmann::json::parse(line, nullptr, false);
    if (!object.is_object()) continue;  // torn by a crash
    const auto step = object.find("step");
    if (step == object.end() || !step->is_number_integer()) continue;
    if (step->get<std::int64_t>() <= last_step) kept += line + "\n";
  }
  return kept;
}

}  // namespace

MetricsLog::MetricsLog(const std::filesystem::path& path, std::int64_t last_step, Files& files) {
  const bool exists = files.kind_of(path) != FileKind::kNone;
  if (exists) require_file(path, files);
  write_file_atomically(path, exists ? lines_up_to(path, last_step, files) : std::string(), files);
  file_ = files.open_to_append(path);
}

void MetricsLog::write(const StepReport& report) {
  Json object = {{"step", report.step},
                 {"epoch", report.epoch},
                 {"loss", report.loss},
                 {"lr", report.lr},
                 {"samples_per_second", report.samples_per_second},
                 {"data_seconds", report.data_seconds},
                 {"compute_seconds", report.compute_seconds},
                 {"communication_seconds", report.communication_seconds},
                 {"bytes_sent", report.traffic.sent},
                 {"bytes_received", report.traffic.received}};
  if (report.skipped_steps > 0) object["skipped_steps"] = report.skipped_steps;
  if (report.loss_scale) object["loss_scale"] = *report.loss_scale;
  if (report.gradient_norm) object["gradient_norm"] = *report.gradient_norm;
  line(object.dump());
}

void MetricsLog::write(const EvaluationReport& report) {
  Json metrics = {{"samples", report.samples}, {"loss", report.loss}};
  if (report.accuracy) metrics["accuracy"] = *report.accuracy;
  if (report.r2) metrics["r2"] = *report.r2;
  if (report.perplexity) metrics["perplexity"] = *report.perplexity;
  if (report.bits_per_byte) metrics["bits_per_byte"] = *report.bits_per_byte;
  line(Json({{"step", report.step}, {"evaluation", metrics}}).dump());
}

void MetricsLog::line(const std::string& text) {
  const std::string end_of_torn = is_torn_ ? "\n" : "";
  is_torn_ = true;
  file_->append(end_of_torn + text + "\n");
  is_torn_ = false;
}

}  // namespace trireme
