#include "trireme/cli/bench_memory_command.h"

#include <fmt/format.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "trireme/base/text.h"
#include "trireme/base/version.h"
#include "trireme/bench/report.h"
#include "trireme/cli/step_bench.h"
#include "trireme/cli/terminal.h"
#include "trireme/train/step_memory.h"

namespace trireme::cli {

namespace {

std::string bytes_or_dash(std::optional<std::int64_t> bytes) {
  return bytes ? with_commas(*bytes) : "-";
}

std::optional<double> ratio_of(const MemoryLine& line) {
  if (!line.measured || !line.formula || *line.formula == 0) return std::nullopt;
  return static_cast<double>(*line.measured) / static_cast<double>(*line.formula);
}

std::string table(const StepBenchJob& job, const StepMemory& memory) {
  const RunDescription& run = memory.run;
  std::string text = fmt::format(
      "# trireme {} bench memory: {}, {} (P), {}, {}, {}, {}, recomputation {}; bytes of the rank "
      "that has the most\n",
      version(), run.model, with_commas(run.parameters, "parameter"),
      counted(memory.micro_batch, "sample") + " a micro-batch",
      counted(run.virtual_workers, "virtual worker"), counted(run.ranks, "rank"),
      name_of(job.plan.data_parallel), job.config.parallelism.recompute);
  if (!memory.letters.empty()) text += fmt::format("# {}\n", memory.letters);
  text += fmt::format("#\n# {:<21} {:>15} {:>15} {:>6}\n", "", "measured", "formula", "ratio");
  for (const MemoryLine& line : memory.lines) {
    const std::optional<double> ratio = ratio_of(line);
    text += fmt::format("  {:<21} {:>15} {:>15} {:>6}  {}", line.kind, bytes_or_dash(line.measured),
                        bytes_or_dash(line.formula), ratio ? fmt::format("{:.3f}", *ratio) : "-",
                        line.text);
    while (text.back() == ' ') text.pop_back();
    text += '\n';
  }
  return text;
}

nlohmann::ordered_json or_null(std::optional<std::int64_t> bytes) {
  return bytes ? nlohmann::ordered_json(*bytes) : nlohmann::ordered_json();
}

std::string json_of(const StepBenchJob& job, const StepMemory& memory) {
  const RunDescription& run = memory.run;
  nlohmann::ordered_json json = {{"program", "trireme"},
                                 {"version", version()},
                                 {"date", bench::date_now()},
                                 {"operation", "memory"},
                                 {"model", run.model},
                                 {"parameters", run.parameters},
                                 {"micro_batch", memory.micro_batch},
                                 {"virtual_workers", run.virtual_workers},
                                 {"ranks", run.ranks},
                                 {"strategy", name_of(job.plan.data_parallel)},
                                 {"optimizer", job.config.optimizer.name},
                                 {"precision", job.config.training.precision},
                                 {"recompute", job.config.parallelism.recompute},
                                 {"letters", memory.letters},
                                 {"bytes", nlohmann::ordered_json::object()}};
  for (const MemoryLine& line : memory.lines) {
    json["bytes"][line.kind] = {{"measured", or_null(line.measured)},
                                {"formula", or_null(line.formula)},
                                {"text", line.text}};
  }
  return json.dump(2) + "\n";
}

int run(const StepBenchArguments& arguments) {
  const StepBenchJob job = job_of("bench memory", arguments);
  return run_step_bench(job, [&](const Config& config, Communicator& world) {
    const StepMemory memory = measure_memory(config, world);
    return arguments.json ? json_of(job, memory) : table(job, memory);
  });
}

}  // namespace

CLI::App* add_bench_memory(CLI::App& bench, int& exit_code) {
  auto arguments = std::make_shared<StepBenchArguments>();
  CLI::App* command =
      bench.add_subcommand("memory", "The kinds of memory of a training step, beside formulas");
  add_options(*command, *arguments);
  command->footer(
      "Trains two steps and keeps nothing. A formula is what a step needs that keeps each tensor\n"
      "once, and only those that a gradient is computed from.");
  command->callback([arguments, &exit_code] { exit_code = run(*arguments); });
  return command;
}

}  // namespace trireme::cli
