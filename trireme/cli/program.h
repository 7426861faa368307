#pragma once

namespace trireme::cli {

/// The `trireme` program. Runs the subcommand of the command line, prints its results and errors,
/// and returns the exit code.
int run_program(int argc, char** argv);

}  // namespace trireme::cli
