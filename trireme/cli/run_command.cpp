#include <charconv>
#include <chrono>
#include <string>
#include <vector>

#include "trireme/base/error.h"
#include "trireme/cli/commands.h"
#include "trireme/cli/failure_report.h"
#include "trireme/launch/environment.h"
#include "trireme/launch/launcher.h"

namespace trireme::cli {

namespace {

struct RunArguments {
  int ranks = usable_cores();
  std::string log_directory;
  bool pin = false;
  HostsOptions hosts;
  std::string master;
  std::string job_secret;
  int timeout = 1800;
  std::vector<std::string> command;
};

// "10.0.0.1:29500", "node1", "[fe80::1]:29500".
void read_master(const std::string& text, HostsOptions& hosts) {
  const auto bracket = text.rfind(']');
  const auto colon = text.rfind(':');
  const bool has_port =
      colon != std::string::npos && (bracket == std::string::npos || colon > bracket);
  hosts.master_address = text.substr(0, has_port ? colon : std::string::npos);
  if (hosts.master_address.starts_with('[')) {
    hosts.master_address = hosts.master_address.substr(1, hosts.master_address.size() - 2);
  }
  if (!has_port) return;
  const char* begin = text.data() + colon + 1;
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(begin, end, hosts.master_port);
  if (error == std::errc() && stop == end && hosts.master_port >= 1 && hosts.master_port <= 65535) {
    return;
  }
  throw UsageError("run: --master must be ADDRESS:PORT of the first host, got \"" + text + "\"");
}

// Throws UsageError unless the options for several hosts are complete and valid.
HostsOptions hosts_of(const RunArguments& arguments) {
  HostsOptions hosts = arguments.hosts;
  if (hosts.count > 1 && arguments.master.empty()) {
    throw UsageError("run: --hosts needs --master ADDRESS:PORT, where the first host is reached");
  }
  if (hosts.count == 1 && !arguments.master.empty()) {
    throw UsageError("run: --master is for several hosts; give --hosts and --host as well");
  }
  if (hosts.index >= hosts.count) {
    throw UsageError("run: --host counts from 0 and must be below --hosts " +
                     std::to_string(hosts.count) + ", got " + std::to_string(hosts.index));
  }
  if (hosts.count == 1 && !arguments.job_secret.empty()) {
    throw UsageError(
        "run: --job-secret is for several hosts; the ranks of one host get a secret of their own");
  }
  if (hosts.count > 1) read_master(arguments.master, hosts);
  return hosts;
}

// Of the file, or of the environment that the ranks inherit.
JobSecret secret_of(const RunArguments& arguments) {
  return arguments.job_secret.empty() ? read_job_secret()
                                      : JobSecret::from_file(arguments.job_secret);
}

void warn_without_secret(const HostsOptions& hosts) {
  if (hosts.count == 1 || hosts.index > 0 || hosts.secret.is_given()) return;
  Terminal::of(2).write(
      "run: warning: the ranks of several hosts meet without a secret, so that any program that "
      "reaches the port of --master can join them; give all hosts the same file by --job-secret "
      "FILE (docs/security.md)\n");
}

int run(const RunArguments& arguments) {
  LaunchOptions options;
  options.hosts = hosts_of(arguments);
  options.hosts.secret = secret_of(arguments);
  warn_without_secret(options.hosts);
  options.ranks = arguments.ranks;
  options.log_directory = arguments.log_directory;
  options.pin_to_cores = arguments.pin;
  options.world.timeout = std::chrono::seconds(arguments.timeout);
  ExitReport report = launch(options, arguments.command);
  if (report.failed_rank >= 0) {
    // The output of rank 0 has just been shown as it is.
    if (report.failed_rank == 0) report.last_lines.clear();
    const Terminal terminal = Terminal::of(2);
    terminal.write(failure_report(report, "", terminal));
  }
  return report.exit_code;
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
  command->add_option("--hosts", arguments->hosts.count, "hosts that run this command")
      ->check(CLI::Range(1, 100'000));
  command->add_option("--host", arguments->hosts.index, "which of them this is, from 0 on")
      ->check(CLI::Range(0, 99'999));
  command->add_option("--master", arguments->master, "ADDRESS:PORT of the first host, free there");
  command->add_option("--job-secret", arguments->job_secret,
                      "file with a secret of 16 or more characters, the same on all hosts: only "
                      "ranks that know it are let in");
  command
      ->add_option("--timeout", arguments->timeout,
                   "seconds that a rank waits for another before its call is an error")
      ->check(CLI::Range(1, 10'000'000))
      ->capture_default_str();
  // The first word that is no option begins the command line of the program.
  command->add_option("program", arguments->command, "the program and its arguments");
  command->positionals_at_end();
  command->prefix_command();
  command->footer(
      "The ranks see RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE, MASTER_ADDR and MASTER_PORT,\n"
      "as under torchrun; trireme::connect() joins them over shared memory. Over several hosts\n"
      "start the same on each of them, with as many ranks; Gloo carries what goes between them:\n"
      "    trireme run -n 8 --hosts 2 --host 0 --master node1:29500 trireme train run.toml\n"
      "The exit code is that of the rank at fault; 128 + N: signal N ended it.");
  command->callback([arguments, command, &exit_code] {
    std::vector<std::string> rest = command->remaining();
    // "--" before the program only ends the options of trireme.
    if (!rest.empty() && rest.front() == "--") rest.erase(rest.begin());
    arguments->command.insert(arguments->command.end(), rest.begin(), rest.end());
    exit_code = run(*arguments);
  });
}

}  // namespace trireme::cli
