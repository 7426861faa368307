#pragma once

#include <CLI/CLI.hpp>

namespace trireme::cli {

/// Adds `train` to the subcommand `bench`; as those of commands.h.
CLI::App* add_bench_train(CLI::App& bench, int& exit_code);

}  // namespace trireme::cli
