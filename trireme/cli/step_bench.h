#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "trireme/comm/communicator.h"
#include "trireme/config/config.h"
#include "trireme/launch/machine.h"
#include "trireme/launch/threads.h"
#include "trireme/plan/run_plan.h"

namespace trireme::cli {

/// What `trireme bench train` and `trireme bench memory` have in common: they make steps of the run
/// that a configuration describes.
struct StepBenchArguments {
  std::vector<std::string> words;  ///< FILE.toml and section.key=value
  int ranks = 0;
  bool json = false;
};

/// Adds the options of these arguments to `command`.
void add_options(CLI::App& command, StepBenchArguments& arguments);

struct StepBenchJob {
  Config config;
  plan::RunPlan plan;
  int ranks = 1;
  std::optional<ThreadChoice> threads;  ///< none: the cores of each rank decide
  Machine machine;                      ///< read before this process is bound to a part of it
};

/// `command`: "bench train", for errors. Throws UsageError or DataError.
StepBenchJob job_of(const std::string& command, const StepBenchArguments& arguments);

/// The work of one rank, with the configuration and its threads. Returns the text of the first rank
/// for stdout.
using StepBenchMain = std::function<std::string(const Config& config, Communicator& world)>;

/// Runs `main` on the ranks of the job. Returns the exit code of this process.
int run_step_bench(const StepBenchJob& job, const StepBenchMain& main);

}  // namespace trireme::cli
