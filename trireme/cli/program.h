#pragma once

namespace trireme::cli {

/// The `trireme` program: runs the subcommand that the words name, prints its results and errors,
/// and returns the exit code.
int run_program(int argc, char** argv);

}  // namespace trireme::cli
