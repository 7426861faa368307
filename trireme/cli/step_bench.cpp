#include "trireme/cli/step_bench.h"

#include <fmt/format.h>

#include <iostream>

#include "trireme/base/error.h"
#include "trireme/cli/benchmark_ranks.h"
#include "trireme/cli/configuration_words.h"
#include "trireme/cli/error_text.h"
#include "trireme/cli/rank_threads.h"
#include "trireme/cli/terminal.h"
#include "trireme/launch/environment.h"
#include "trireme/launch/exit_codes.h"
#include "trireme/launch/heap.h"
#include "trireme/train/train.h"

namespace trireme::cli {

void add_options(CLI::App& command, StepBenchArguments& arguments) {
  command.add_option("file", arguments.words, "FILE.toml and overrides section.key=value");
  command.add_option("-n,--ranks", arguments.ranks, "how many ranks (default: one a core)")
      ->check(CLI::Range(1, 256));
  command.add_flag("--json", arguments.json, "print one JSON object instead of the table");
}

StepBenchJob job_of(const std::string& command, const StepBenchArguments& arguments) {
  const ConfigurationWords words = parse_words(command, arguments.words);
  const RankEnvironment environment = read_environment();
  StepBenchJob job{.config = read_configuration(command, words, environment),
                   .machine = inspect_machine()};
  if (environment.world_size > 1) {
    job.ranks = environment.world_size;
  } else {
    job.ranks = arguments.ranks > 0 ? arguments.ranks : default_ranks(job.config);
  }
  job.threads = decided_threads(job.config, environment);
  if (job.config.training.virtual_workers == 0) job.config.training.virtual_workers = job.ranks;
  job.plan = check(job.config, job.ranks);
  if (arguments.ranks > 0 && is_one_of_several()) {
    throw UsageError(fmt::format(
        "{}: -n is for ranks of our own; here another launcher has started them", command));
  }
  return job;
}

int run_step_bench(const StepBenchJob& job, const StepBenchMain& main) {
  return run_ranks(job.ranks, job.config.parallelism.pin ? Binding::kShare : Binding::kNone,
                   [&](Communicator& world, const CoreShare& share) {
                     keep_freed_memory();
                     Config config = job.config;
                     config.training.threads =
                         job.threads.value_or(threads_of_share(share)).threads;
                     try {
                       const std::string text = main(config, world);
                       if (world.rank() == 0) {
                         std::cout << text;
                         flush_stdout();
                       }
                     } catch (const std::exception& error) {
                       std::cerr << message_of(error) << '\n';
                       return exit_code_of_rank(error);
                     }
                     return static_cast<int>(ExitCode::kOk);
                   });
}

}  // namespace trireme::cli
