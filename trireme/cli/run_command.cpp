#include <string>
#include <vector>

#include "trireme/cli/commands.h"
#include "trireme/cli/failure_box.h"
#include "trireme/launch/launcher.h"

namespace trireme::cli {

namespace {

struct RunArguments {
  int ranks = usable_cores();
  std::string log_directory;
  bool pin = false;
  std::vector<std::string> command;
};

int run(const RunArguments& arguments) {
  LaunchOptions options;
  options.ranks = arguments.ranks;
  options.log_directory = arguments.log_directory;
  options.pin_to_cores = arguments.pin;
  const Verdict verdict = launch(options, arguments.command);
  if (verdict.rank_at_fault >= 0) {
    const Terminal terminal = Terminal::of(2);
    terminal.write(failure_box(verdict, "", terminal));
  }
  return verdict.exit_code;
}

}  // namespace

void add_run(CLI::App& app, int& exit_code) {
  auto arguments = std::make_shared<RunArguments>();
  CLI::App* command = app.add_subcommand(
      "run",
      "Start a program of your own on several ranks: trireme run -n 4 ./program --its-option");
  command->add_option("-n,--ranks", arguments->ranks, "how many (default: one a core)")
      ->check(CLI::Range(1, 256));
  command->add_option("--logs", arguments->log_directory,
                      "folder for the output of all ranks but rank 0");
  command->add_flag("--pin", arguments->pin, "bind each rank to its own cores");
  // From the first word that is no option of ours, all is the program's.
  command->add_option("program", arguments->command, "the program and its arguments");
  command->positionals_at_end();
  command->prefix_command();
  command->footer(
      "The ranks see RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE, MASTER_ADDR and MASTER_PORT,\n"
      "as under torchrun; trireme::connect() joins them over shared memory.\n"
      "The exit code is that of the rank at fault; 128 + N: signal N ended it.");
  command->callback([arguments, command, &exit_code] {
    std::vector<std::string> rest = command->remaining();
    // Before the program it only says that our options end here.
    if (!rest.empty() && rest.front() == "--") rest.erase(rest.begin());
    arguments->command.insert(arguments->command.end(), rest.begin(), rest.end());
    exit_code = run(*arguments);
  });
}

}  // namespace trireme::cli
