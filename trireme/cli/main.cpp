#include <exception>
#include <iostream>

#include "trireme/cli/commands.h"
#include "trireme/launch/exit_codes.h"

namespace {

constexpr const char* kFooter =
    "Exit codes: 0 done, 1 internal error, 2 command line or configuration, 3 data, 4 a rank was\n"
    "lost, 5 training diverged, 130 interrupted, 128 + N: signal N.";

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("trireme: distributed model training in C++ on libtorch", "trireme");
  app.set_version_flag("--version", "trireme " TRIREME_VERSION);
  app.require_subcommand(1);
  app.footer(kFooter);
  int exit_code = 0;
  trireme::cli::add_train(app, exit_code);
  trireme::cli::add_run(app, exit_code);
  trireme::cli::add_init(app, exit_code);
  trireme::cli::add_keys(app, exit_code);
  trireme::cli::add_doctor(app, exit_code);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : static_cast<int>(trireme::ExitCode::kUsage);
  } catch (const std::exception& error) {
    std::cerr << "trireme: " << error.what() << '\n';
    return static_cast<int>(trireme::exit_code_of(error));
  }
  return exit_code;
}
