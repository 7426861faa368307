#pragma once

#include <CLI/CLI.hpp>

namespace trireme::cli {

/// Adds the subcommand `memory` to `bench`, as the functions of commands.h do.
CLI::App* add_bench_memory(CLI::App& bench, int& exit_code);

}  // namespace trireme::cli
