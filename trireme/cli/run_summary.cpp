#include "trireme/cli/run_summary.h"

#include <fmt/format.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <sstream>

#include "trireme/base/text.h"
#include "trireme/cli/terminal.h"
#include "trireme/formats/printable.h"
#include "trireme/formats/safetensors_index.h"
#include "trireme/train/run_directory.h"

namespace trireme::cli {

namespace {

constexpr std::size_t kShownFailures = 5;

std::string indented(const std::string& text) {
  std::string result;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    result += fmt::format("  {}\n", without_control_characters(line));
  }
  return result;
}

}  // namespace

std::string summary_text(const RunSummary& summary) {
  const RunDirectory run{summary.directory};
  std::string card;
  const auto row = [&](std::string_view name, const std::string& value) {
    card += fmt::format("  {:<14} {}\n", name, value);
  };
  card += summary.out_of_time   ? "\nstopped: training.max_time has passed\n"
          : summary.interrupted ? "\nstopped as asked\n"
                                : "\ndone\n";
  row("steps", fmt::format("{} in {}", with_commas(summary.steps), duration(summary.seconds)));
  row("samples/s", with_commas(std::llround(summary.samples_per_second)));
  if (summary.tokens_per_second > 0) {
    row("tokens/s", with_commas(std::llround(summary.tokens_per_second)));
  }
  if (summary.skipped_steps > 0) {
    row("skipped",
        fmt::format("{}, in which not all was finite", with_commas(summary.skipped_steps, "step")));
  }
  if (summary.loss) row("training loss", fmt::format("{:.4g}", *summary.loss));
  if (const auto [sent, received] = summary.traffic; sent + received > 0) {
    const auto size = [](std::int64_t bytes) { return memory_size(static_cast<double>(bytes)); };
    row("rank 0", fmt::format("sent {}, received {}", size(sent), size(received)));
  }
  if (summary.evaluation) {
    const EvaluationReport& evaluation = *summary.evaluation;
    row("test loss", fmt::format("{:.4g}", evaluation.loss));
    if (evaluation.accuracy)
      row("test accuracy", fmt::format("{:.2f} %", 100 * *evaluation.accuracy));
    if (evaluation.perplexity) {
      row("perplexity", fmt::format("{:.4g}", *evaluation.perplexity));
    }
    if (evaluation.bits_per_byte) {
      row("bits a byte", fmt::format("{:.4f}", *evaluation.bits_per_byte));
    }
    if (evaluation.r2) {
      row("test R2", std::isnan(*evaluation.r2) ? "undefined: all targets are equal"
                                                : fmt::format("{:.4f}", *evaluation.r2));
    }
  }
  if (!summary.interrupted) row("model", safetensors_file_or_index(run.model()).string());
  row("metrics", run.metrics().string());
  row("configuration", run.config().string());
  for (std::size_t i = 0; i < summary.not_written.size(); ++i) {
    if (i == kShownFailures) {
      row("", fmt::format("and {} more", summary.not_written.size() - i));
      break;
    }
    row("NOT WRITTEN", summary.not_written[i]);
  }
  if (summary.interrupted && summary.is_complete) {
    row("resume with", fmt::format("trireme train --resume {}", shell_quoted(run.root.string())));
  }
  if (!summary.sample_text.empty()) {
    card += "\nthe model writes:\n" + indented(summary.sample_text);
  }
  return card;
}

std::string summary_json(const RunSummary& summary) {
  const RunDirectory run{summary.directory};
  nlohmann::ordered_json json = {{"steps", summary.steps},
                                 {"interrupted", summary.interrupted},
                                 {"out_of_time", summary.out_of_time},
                                 {"seconds", summary.seconds},
                                 {"samples_per_second", summary.samples_per_second},
                                 {"loss", nullptr},
                                 {"skipped_steps", summary.skipped_steps},
                                 {"bytes_sent", summary.traffic.sent},
                                 {"bytes_received", summary.traffic.received}};
  if (summary.loss) json["loss"] = *summary.loss;
  if (!summary.not_written.empty()) json["not_written"] = summary.not_written;
  if (summary.evaluation) {
    const EvaluationReport& report = *summary.evaluation;
    json["evaluation"] = {{"samples", report.samples}, {"loss", report.loss}};
    if (report.accuracy) json["evaluation"]["accuracy"] = *report.accuracy;
    if (report.r2) json["evaluation"]["r2"] = *report.r2;
    if (report.perplexity) json["evaluation"]["perplexity"] = *report.perplexity;
    if (report.bits_per_byte) json["evaluation"]["bits_per_byte"] = *report.bits_per_byte;
  }
  if (summary.tokens_per_second > 0) json["tokens_per_second"] = summary.tokens_per_second;
  if (!summary.sample_text.empty()) json["sample_text"] = summary.sample_text;
  json["metrics"] = run.metrics().string();
  json["configuration"] = run.config().string();
  if (!summary.interrupted) json["model"] = safetensors_file_or_index(run.model()).string();
  return json.dump(2) + "\n";
}

}  // namespace trireme::cli
