#include "trireme/cli/bench_train_command.h"

#include <fmt/format.h>

#include <cmath>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "trireme/base/text.h"
#include "trireme/base/version.h"
#include "trireme/bench/report.h"
#include "trireme/cli/step_bench.h"
#include "trireme/cli/terminal.h"
#include "trireme/train/step_times.h"

namespace trireme::cli {

namespace {

struct BenchTrainArguments : StepBenchArguments {
  std::int64_t steps = 0;
};

// Returns the part of the communication that is hidden by computation, 0 if there is none.
double overlap_of(const StepTimes& times) {
  return times.communication_alone > 0 ? times.hidden() / times.communication_alone : 0;
}

std::string table(const StepBenchJob& job, const StepTimes& times) {
  const RunDescription& run = times.run;
  std::string text = fmt::format(
      "# trireme {} bench train: {}, {}, global batch {}, {}, {}, {}; {} of {}\n#\n# {:<24} {:>10} "
      "{:>9}\n",
      version(), run.model, with_commas(run.parameters, "parameter"), run.global_batch,
      counted(run.virtual_workers, "virtual worker"), counted(run.ranks, "rank"),
      name_of(job.plan.data_parallel), counted(times.rounds, "round"),
      counted(times.steps_per_round, "step"), "", "us", "of step");
  const auto row = [&](std::string_view name, double seconds, std::string_view remark) {
    text += fmt::format("  {:<24} {:>10.1f} {:>7.1f} %  {}", name, 1e6 * seconds,
                        100 * seconds / times.step, remark);
    while (text.back() == ' ') text.pop_back();
    text += '\n';
  };
  row("step", times.step,
      fmt::format("{} samples/s", with_commas(std::llround(times.samples_per_second()))));
  row("  data", times.data, "");
  row("  compute", times.compute, "");
  row("  communication", times.communication, "and waiting for slower ranks");
  if (times.arrival_distance) {
    row("    ranks arrive apart", *times.arrival_distance, "the first and the last, median");
  }
  row("without communication", times.independent,
      fmt::format("the bound: a step is {:.2f} of it", times.step_over_bound));
  row("communication alone", times.communication_alone, "");
  row("  hidden by compute", times.hidden(),
      times.communication_alone > 0 ? fmt::format("overlap {:.0f} %", 100 * overlap_of(times))
                                    : "");
  return text;
}

std::string json_of(const StepBenchJob& job, const StepTimes& times) {
  const RunDescription& run = times.run;
  const Machine& machine = job.machine;
  nlohmann::ordered_json json = {{"program", "trireme"},
                                 {"version", version()},
                                 {"date", bench::date_now()},
                                 {"machine",
                                  {{"processor", machine.cpu_model},
                                   {"cores", machine.cores},
                                   {"usable_cores", machine.usable}}},
                                 {"operation", "train"},
                                 {"model", run.model},
                                 {"parameters", run.parameters},
                                 {"global_batch", run.global_batch},
                                 {"virtual_workers", run.virtual_workers},
                                 {"ranks", run.ranks},
                                 {"threads", run.threads},
                                 {"strategy", name_of(job.plan.data_parallel)},
                                 {"rounds", times.rounds},
                                 {"steps_per_round", times.steps_per_round},
                                 {"step_us", 1e6 * times.step},
                                 {"data_us", 1e6 * times.data},
                                 {"compute_us", 1e6 * times.compute},
                                 {"communication_us", 1e6 * times.communication},
                                 {"samples_per_second", times.samples_per_second()},
                                 {"independent_step_us", 1e6 * times.independent},
                                 {"step_over_bound", times.step_over_bound},
                                 {"communication_alone_us", 1e6 * times.communication_alone},
                                 {"hidden_us", 1e6 * times.hidden()},
                                 {"overlap", overlap_of(times)}};
  if (times.arrival_distance) json["arrival_distance_us"] = 1e6 * *times.arrival_distance;
  return json.dump(2) + "\n";
}

int run(const BenchTrainArguments& arguments) {
  const StepBenchJob job = job_of("bench train", arguments);
  return run_step_bench(job, [&](const Config& config, Communicator& world) {
    const StepTimes times = measure_steps(config, world, {.steps = arguments.steps});
    return arguments.json ? json_of(job, times) : table(job, times);
  });
}

}  // namespace

CLI::App* add_bench_train(CLI::App& bench, int& exit_code) {
  auto arguments = std::make_shared<BenchTrainArguments>();
  CLI::App* command = bench.add_subcommand("train", "Where the time of a training step goes");
  add_options(*command, *arguments);
  command->add_option("--steps", arguments->steps, "to measure (default: five seconds of them)")
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{1} << 30));
  command->footer(
      "Trains a little and keeps nothing. In turn with its steps each rank trains alone on its\n"
      "share of the batch, which is the bound, and the ranks communicate without training.");
  command->callback([arguments, &exit_code] { exit_code = run(*arguments); });
  return command;
}

}  // namespace trireme::cli
