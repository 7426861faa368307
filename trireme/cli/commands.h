#pragma once

#include <CLI/CLI.hpp>

namespace trireme::cli {

/// Each adds one subcommand to `app`; when it is the one called it leaves its exit code in
/// `exit_code` or throws.
void add_train(CLI::App& app, int& exit_code);
void add_run(CLI::App& app, int& exit_code);
void add_init(CLI::App& app, int& exit_code);
void add_keys(CLI::App& app, int& exit_code);
void add_doctor(CLI::App& app, int& exit_code);
void add_bench(CLI::App& app, int& exit_code);
void add_serve(CLI::App& app, int& exit_code);
void add_fetch(CLI::App& app, int& exit_code);

}  // namespace trireme::cli
