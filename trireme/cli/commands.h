#pragma once

#include <CLI/CLI.hpp>

namespace trireme::cli {

/// Each function adds one subcommand to `app`. When the subcommand is called it sets `exit_code` or
/// throws.
void add_train(CLI::App& app, int& exit_code);
void add_run(CLI::App& app, int& exit_code);
void add_init(CLI::App& app, int& exit_code);
void add_keys(CLI::App& app, int& exit_code);
void add_doctor(CLI::App& app, int& exit_code);
void add_bench(CLI::App& app, int& exit_code);
void add_serve(CLI::App& app, int& exit_code);
void add_fetch(CLI::App& app, int& exit_code);
void add_tokenize(CLI::App& app, int& exit_code);
void add_generate(CLI::App& app, int& exit_code);
void add_checkpoint(CLI::App& app, int& exit_code);
void add_verify(CLI::App& app, int& exit_code);
void add_find_lr(CLI::App& app, int& exit_code);

}  // namespace trireme::cli
