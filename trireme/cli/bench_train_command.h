#pragma once

#include <CLI/CLI.hpp>

namespace trireme::cli {

/// Adds the subcommand `train` to `bench`, as the functions of commands.h do.
CLI::App* add_bench_train(CLI::App& bench, int& exit_code);

}  // namespace trireme::cli
