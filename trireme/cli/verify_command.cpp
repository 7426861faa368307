#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "trireme/base/error.h"
#include "trireme/base/file_descriptor.h"
#include "trireme/base/system_error.h"
#include "trireme/base/version.h"
#include "trireme/cli/commands.h"
#include "trireme/cli/configuration_words.h"
#include "trireme/cli/error_text.h"
#include "trireme/cli/layout_words.h"
#include "trireme/cli/rank_threads.h"
#include "trireme/cli/terminal.h"
#include "trireme/cli/verify_report.h"
#include "trireme/comm/shm/world.h"
#include "trireme/launch/exit_codes.h"
#include "trireme/launch/heap.h"
#include "trireme/launch/launcher.h"
#include "trireme/train/train.h"
#include "trireme/train/verify_run.h"
#include "trireme/world/connect.h"

namespace trireme::cli {

namespace {

struct VerifyArguments {
  std::vector<std::string> words;
  VerifyOptions options;
  bool json = false;
};

/// A layout and what it makes of the user's configuration.
struct LayoutRun {
  Layout layout;
  Config config;
  plan::RunPlan plan;
};

// Throws the error of the layout with its name.
LayoutRun run_of(const Layout& layout, ConfigurationWords words, const VerifyArguments& arguments,
                 const RankEnvironment& environment, std::int64_t most_ranks) {
  words.overrides.insert(words.overrides.end(), layout.overrides.begin(), layout.overrides.end());
  LayoutRun run{.layout = layout};
  try {
    run.config = read_configuration("verify", words, environment);
    Config::Training& training = run.config.training;
    if (training.virtual_workers == 0) training.virtual_workers = most_ranks;
    // The number of virtual workers decides.
    training.threads = decided_threads(run.config, environment)->threads;
    run.plan = check(run.config, layout.ranks);
    require_comparable(run.plan, arguments.options.bound);
  } catch (const UsageError& error) {
    throw UsageError(fmt::format("verify: {}: {}", layout.text, error.what()));
  }
  return run;
}

// Of the ranks of a launcher all but the last belong to the layout.
Layout layout_of(const std::string& word, const RankEnvironment& environment) {
  if (environment.world_size < 2) return parse_layout(word, kUsualLayoutRanks);
  Layout layout = parse_layout(word, environment.world_size - 1);
  if (layout.ranks == environment.world_size - 1) return layout;
  throw UsageError(
      fmt::format("verify: layout {}: the launcher has started {} ranks, which are {} of a layout "
                  "and the reference; leave out ranks, or start {}",
                  word, environment.world_size, environment.world_size - 1, layout.ranks + 1));
}

std::vector<LayoutRun> runs_of(const VerifyArguments& arguments,
                               const RankEnvironment& environment) {
  std::vector<std::string> others;
  std::vector<Layout> layouts;
  std::int64_t most_ranks = 1;
  for (const std::string& word : arguments.words) {
    if (!is_layout(word)) {
      others.push_back(word);
      continue;
    }
    layouts.push_back(layout_of(word, environment));
    most_ranks = std::max<std::int64_t>(most_ranks, layouts.back().ranks);
  }
  const ConfigurationWords words = parse_words("verify", others);
  if (layouts.empty()) {
    throw UsageError("verify: no layout; name at least one, such as ranks=3");
  }
  if (words.file == "-") {
    throw UsageError("verify: - is standard input, and each layout reads the file; name a file");
  }
  read_configuration("verify", words, environment);  // its own errors are no layout's
  std::vector<LayoutRun> runs;
  for (const Layout& layout : layouts) {
    runs.push_back(run_of(layout, words, arguments, environment, most_ranks));
  }
  return runs;
}

/// What is printed: a line for each layout as it ends, or one JSON object at the end.
class Report {
 public:
  Report(const VerifyArguments& arguments, const std::vector<LayoutRun>& runs)
      : is_json_(arguments.json),
        json_{{"program", "trireme"},
              {"version", version()},
              {"operation", "verify"},
              {"virtual_workers", runs.front().config.training.virtual_workers},
              {"bound", arguments.options.bound},
              {"layouts", nlohmann::ordered_json::array()}} {}

  void add(const Layout& layout, const VerifyOutcome& outcome) {
    if (exit_code_ == 0) exit_code_ = outcome.exit_code;
    nlohmann::ordered_json entry = {
        {"layout", layout.text}, {"ranks", layout.ranks}, {"result", outcome.result}};
    entry.update(outcome.json);
    json_["layouts"].push_back(std::move(entry));
    if (is_json_) return;
    if (outcome.result == "error") {
      std::cerr << fmt::format("trireme: verify: {}: {}\n", layout.text, outcome.text);
    } else {
      std::cout << fmt::format("{}: {}\n", layout.text, outcome.text);
      flush_stdout();
    }
  }

  // Returns the exit code: that of the first layout whose is not 0.
  int end() {
    if (is_json_) std::cout << json_.dump(2) << '\n';
    return exit_code_;
  }

 private:
  bool is_json_;
  nlohmann::ordered_json json_;
  int exit_code_ = 0;
};

// The pipe holds what one rank writes.
void write_outcome(int fd, const VerifyOutcome& outcome) {
  const std::string text = to_text(outcome);
  if (::write(fd, text.data(), text.size()) != std::ssize(text)) {
    throw DataError(fmt::format("verify: cannot hand over a result: {}", system_reason(errno)));
  }
}

std::string read_all(int fd) {
  std::string text;
  char block[4096];
  for (ssize_t got = 0; (got = ::read(fd, block, sizeof(block))) > 0;) {
    text.append(block, static_cast<std::size_t>(got));
  }
  return text;
}

int run_rank(const VerifyArguments& arguments, const LayoutRun& run, int rank, int world_fd,
             int result_fd) {
  try {
    const auto world = shm::World::open(world_fd).join(rank);
    keep_freed_memory();
    const Verification verification = verify(run.config, *world, arguments.options);
    if (rank == 0) write_outcome(result_fd, outcome_of(verification, arguments.options.bound));
  } catch (const std::exception& error) {
    std::cerr << message_of(error) << '\n';
    return exit_code_of_rank(error);
  }
  return static_cast<int>(ExitCode::kOk);
}

VerifyOutcome failure_of(const ExitReport& report) {
  const bool has_lines = report.status.signal == 0 && !report.last_lines.empty();
  const std::string why = has_lines ? report.last_lines.back() : report.explanation;
  const bool is_reference = report.failed_rank == report.world_size - 1;
  return failed_outcome(
      fmt::format("{}: {}",
                  is_reference ? "the reference" : fmt::format("rank {}", report.failed_rank), why),
      report.exit_code);
}

// Runs a layout on ranks of our own. `stopped`: becomes true if the user has asked to.
VerifyOutcome run_layout(const VerifyArguments& arguments, const LayoutRun& run, bool& stopped) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) < 0) {
    throw UsageError(fmt::format("verify: no pipe: {}", system_reason(errno)));
  }
  const FileDescriptor out(ends[0]);
  FileDescriptor in(ends[1]);
  const FileDescriptor nowhere(::open("/dev/null", O_WRONLY | O_CLOEXEC));
  LaunchOptions options;
  options.ranks = run.layout.ranks + 1;
  options.stderr_fd = nowhere.fd();  // errors are reported here, with the layout
  options.world.timeout = run.plan.transport.timeout;
  const ExitReport report = launch(options, [&](int rank, int world_fd) {
    return run_rank(arguments, run, rank, world_fd, in.fd());
  });
  in.close();
  stopped = report.interrupted_by != 0;
  return report.ok() ? outcome_from(read_all(out.fd())) : failure_of(report);
}

int verify_on_own_ranks(const VerifyArguments& arguments, const std::vector<LayoutRun>& runs) {
  Report report(arguments, runs);
  for (const LayoutRun& run : runs) {
    bool stopped = false;
    const VerifyOutcome outcome = run_layout(arguments, run, stopped);
    if (stopped) return outcome.exit_code;
    report.add(run.layout, outcome);
  }
  return report.end();
}

// After an error the ranks of a launcher cannot go on with the next layout.
int verify_as_rank(const VerifyArguments& arguments, const std::vector<LayoutRun>& runs,
                   const RankEnvironment& environment) {
  const plan::Transport& transport = runs.front().plan.transport;
  const auto world = connect(environment, {.backend = transport.backend,
                                           .timeout = transport.timeout,
                                           .heartbeat_timeout = transport.heartbeat_timeout,
                                           .reproducible = transport.reproducible,
                                           .interface_address = transport.interface_address});
  keep_freed_memory();
  Report report(arguments, runs);
  for (const LayoutRun& run : runs) {
    try {
      const Verification verification = verify(run.config, *world, arguments.options);
      if (world->rank() == 0) {
        report.add(run.layout, outcome_of(verification, arguments.options.bound));
      }
    } catch (const std::exception& error) {
      std::cerr << fmt::format("trireme: verify: {}: rank {}: {}\n", run.layout.text, world->rank(),
                               message_of(error));
      return exit_code_of_rank(error);
    }
  }
  // A code other than 0 is that of the first rank: launchers take a rank's for its failure.
  world->barrier();
  return world->rank() == 0 ? report.end() : 0;
}

int verify(const VerifyArguments& arguments) {
  const RankEnvironment environment = read_environment();
  const std::vector<LayoutRun> runs = runs_of(arguments, environment);
  return environment.world_size > 1 ? verify_as_rank(arguments, runs, environment)
                                    : verify_on_own_ranks(arguments, runs);
}

}  // namespace

void add_verify(CLI::App& app, int& exit_code) {
  auto arguments = std::make_shared<VerifyArguments>();
  CLI::App* command = app.add_subcommand(
      "verify", "Train some steps in other layouts, and compare every value with one rank");
  command->add_option("words", arguments->words,
                      "FILE.toml, layouts and overrides section.key=value");
  command->add_option("--steps", arguments->options.steps, "to compare (default: 3)")
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{1} << 30));
  command
      ->add_option("--bound", arguments->options.bound,
                   "let values differ by this, relative to the largest of their tensor "
                   "(default: no bit may)")
      ->check(CLI::Range(0.0, 1.0));
  command->add_flag("--json", arguments->json, "print one JSON object");
  command->footer(
      "    trireme verify run.toml shard=2 shard=3,ranks=3 training.virtual_workers=12\n"
      "A layout is one word: name=value, joined by commas. ranks: how many (default: 2); shard,\n"
      "shard_within, strategy, recompute: those of [parallelism]. Beside its ranks one more "
      "trains\n"
      "alone, the reference. Nothing is written. docs/verify.md says what is compared.\n"
      "Exit codes: 0 the same, 6 different; of several layouts, that of the first that is not 0.");
  command->callback([arguments, &exit_code] { exit_code = verify(*arguments); });
}

}  // namespace trireme::cli
