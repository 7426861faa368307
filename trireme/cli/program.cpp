#include "trireme/cli/program.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <exception>
#include <iostream>
#include <string>
#include <vector>

#include "trireme/base/text.h"
#include "trireme/base/version.h"
#include "trireme/cli/commands.h"
#include "trireme/cli/error_text.h"
#include "trireme/cli/terminal.h"
#include "trireme/launch/exit_codes.h"

namespace trireme::cli {

namespace {

constexpr const char* kFooter =
    "Exit codes: 0 done, 1 internal error, 2 command line or configuration, 3 data, 4 a rank was\n"
    "lost, 5 training diverged, 6 different, 130 interrupted, 128 + N: signal N.";

// Where standard streams are closed, files that are opened next would take their numbers, and be
// written what was meant for a terminal. Writes to these end in an error.
void fill_closed_streams() {
  for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    if (::fcntl(fd, F_GETFD) < 0) ::open("/dev/null", O_RDONLY);
  }
}

// Returns an error if `word` is no subcommand, otherwise an empty string.
std::string unknown_command(const CLI::App& app, const std::string& word) {
  std::vector<std::string> names;
  for (const CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; })) {
    names.push_back(command->get_name());
  }
  if (word.starts_with("-") || std::ranges::count(names, word) > 0) return "";
  const std::string guess = nearest(word, names);
  return "no command \"" + word + "\"; " +
         (guess.empty() ? "`trireme --help` lists them" : "did you mean " + guess + "?");
}

int refuse(const std::string& message) {
  std::cerr << "trireme: " << message << '\n';
  return static_cast<int>(ExitCode::kUsage);
}

// Returns CLI11's message, which may have several lines, as one line that names the command.
std::string message_of(const CLI::App& app, const CLI::ParseError& error) {
  std::string who;
  for (const CLI::App* command : app.get_subcommands()) who = command->get_name();
  std::string what = error.what();
  std::ranges::replace(what, '\n', ' ');
  return (who.empty() ? "" : who + ": ") + what + "; see `trireme " +
         (who.empty() ? "" : who + " ") + "--help`";
}

// Runs the subcommand. CLI11 throws for --help and --version too, which are printed.
void parse(CLI::App& app, int argc, char** argv) {
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() != 0) throw;
    app.exit(error);
  }
}

}  // namespace

int run_program(int argc, char** argv) {
  fill_closed_streams();
  CLI::App app("trireme: distributed model training in C++ on libtorch", "trireme");
  app.set_version_flag("--version", std::string("trireme ") + version());
  app.require_subcommand(1);
  app.footer(kFooter);
  int exit_code = 0;
  add_train(app, exit_code);
  add_run(app, exit_code);
  add_init(app, exit_code);
  add_keys(app, exit_code);
  add_doctor(app, exit_code);
  add_bench(app, exit_code);
  add_serve(app, exit_code);
  add_fetch(app, exit_code);
  add_tokenize(app, exit_code);
  add_generate(app, exit_code);
  add_checkpoint(app, exit_code);
  add_verify(app, exit_code);
  add_find_lr(app, exit_code);
  if (argc == 1) {
    std::cerr << app.help();
    return static_cast<int>(ExitCode::kUsage);
  }
  if (const std::string unknown = unknown_command(app, argv[1]); !unknown.empty()) {
    return refuse(unknown);
  }
  try {
    parse(app, argc, argv);
    flush_stdout();
  } catch (const CLI::ParseError& error) {
    return refuse(message_of(app, error));
  } catch (const std::exception& error) {
    std::cerr << "trireme: " << message_of(error) << '\n';
    return exit_code_of_rank(error);
  }
  return exit_code;
}

}  // namespace trireme::cli
