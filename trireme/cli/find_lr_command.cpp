#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <iostream>
#include <memory>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "trireme/base/error.h"
#include "trireme/base/file_descriptor.h"
#include "trireme/base/files.h"
#include "trireme/base/version.h"
#include "trireme/cli/commands.h"
#include "trireme/cli/configuration_words.h"
#include "trireme/cli/error_text.h"
#include "trireme/cli/find_lr_report.h"
#include "trireme/cli/stop_signals.h"
#include "trireme/cli/terminal.h"
#include "trireme/cli/train_job.h"
#include "trireme/comm/shm/world.h"
#include "trireme/config/set_value.h"
#include "trireme/launch/exit_codes.h"
#include "trireme/launch/heap.h"
#include "trireme/launch/launcher.h"
#include "trireme/train/range_test.h"

namespace trireme::cli {

namespace {

struct FindLrArguments {
  std::vector<std::string> words;
  int ranks = 0;
  plan::LearningRateRange range;
  int repeats = RangeTestOptions().repeats;
  std::string svg;
  bool json = false;
  bool write = false;
};

// The file in which optimizer.lr is to be set. Throws UsageError if that would change nothing.
std::filesystem::path file_to_write(const ConfigurationWords& words, const Config& config) {
  if (words.file.empty() || words.file == "-") {
    throw UsageError("find-lr: --write needs a configuration file to write into, got none");
  }
  if (config.lr_scheduler.name == "one_cycle" && config.lr_scheduler.max_lr > 0) {
    throw UsageError(
        "find-lr: --write sets optimizer.lr, in place of which lr_scheduler.max_lr is used; leave "
        "lr_scheduler.max_lr out");
  }
  // Fails before the test and not after it.
  with_value(read_file(words.file), "optimizer.lr", "1.0", words.file.string());
  return words.file;
}

// A link stays a link, and a file that others may not read stays so.
void write_lr(const std::filesystem::path& file, double lr) {
  std::error_code error;
  const std::filesystem::path target = std::filesystem::canonical(file, error);
  const std::filesystem::path path = error ? file : target;
  const std::string text =
      with_value(read_file(path), "optimizer.lr", fmt::format("{}", lr), file.string());
  const auto permissions = std::filesystem::status(path, error).permissions();
  write_file_atomically(path, text);
  std::filesystem::permissions(path, permissions, error);
}

/// A line on a terminal that says how far the test is.
class LiveTestLine {
 public:
  LiveTestLine(const Terminal& terminal, const FindLrArguments& arguments)
      : terminal_(terminal), arguments_(arguments) {}
  ~LiveTestLine() { clear(); }
  LiveTestLine(const LiveTestLine&) = delete;
  LiveTestLine& operator=(const LiveTestLine&) = delete;

  void show(int repeat, std::int64_t step, double lr, double loss) {
    const auto now = std::chrono::steady_clock::now();
    if (!terminal_.is_terminal || now - shown_ < std::chrono::milliseconds(100)) return;
    shown_ = now;
    is_shown_ = true;
    const std::string line =
        fmt::format("repeat {}/{}  step {}/{}  lr {:.2e}  loss {:.4g}", repeat + 1,
                    arguments_.repeats, step, arguments_.range.steps, lr, loss);
    terminal_.write("\r\x1b[K" + clipped(line, terminal_.columns() - 1));
  }

  void clear() {
    if (is_shown_) terminal_.write("\r\x1b[K");
    is_shown_ = false;
  }

 private:
  const Terminal& terminal_;
  const FindLrArguments& arguments_;
  std::chrono::steady_clock::time_point shown_;
  bool is_shown_ = false;
};

void print(const FindLrArguments& arguments, const FoundLearningRate& found, const Job& job,
           double seconds) {
  if (arguments.json) {
    nlohmann::ordered_json json = {{"program", "trireme"},
                                   {"version", version()},
                                   {"operation", "find-lr"},
                                   {"ranks", job.ranks},
                                   {"virtual_workers", job.config.training.virtual_workers},
                                   {"seconds", seconds}};
    json.update(json_of(found));
    std::cout << json.dump(2) << '\n';
  } else {
    constexpr int kRows = 14, kMostColumns = 100;
    const int columns = std::min(kMostColumns, Terminal::of(STDOUT_FILENO).columns());
    if (!found.suggestion.smoothed.empty()) {
      std::cout << text_of(plot_of(found), columns, kRows) << '\n';
    }
    if (found.suggestion.lr) std::cout << sentence_of(found.suggestion) << '\n';
    std::cout << fmt::format("{} in {}\n", with_commas(steps_of(found), "step"), duration(seconds));
  }
  flush_stdout();
}

// What the first rank does with the curves. Throws UsageError if they say nothing.
void report(const FindLrArguments& arguments, const Job& job, FoundLearningRate found,
            double seconds) {
  if (!arguments.svg.empty()) write_file_atomically(arguments.svg, svg_of(plot_of(found)));
  if (arguments.write && found.suggestion.lr) {
    write_lr(parse_words("find-lr", arguments.words).file, *found.suggestion.lr);
  }
  print(arguments, found, job, seconds);
  if (!found.suggestion.lr) throw UsageError("find-lr: " + sentence_of(found.suggestion));
}

void run_as_rank(const FindLrArguments& arguments, const Job& job, Communicator& world,
                 const Terminal& terminal) {
  keep_freed_memory();
  const auto start = std::chrono::steady_clock::now();
  RangeTestOptions options{.range = arguments.range, .repeats = arguments.repeats};
  LiveTestLine line(terminal, arguments);
  if (world.rank() == 0) {
    options.on_step = [&](int repeat, std::int64_t step, double lr, double loss) {
      line.show(repeat, step, lr, loss);
    };
  }
  FoundLearningRate found{
      .range = arguments.range,
      .repeats = find_learning_rate_curves(job.config, job.plan, world, options)};
  line.clear();
  if (world.rank() > 0) return;
  found.suggestion = plan::suggest_learning_rate(found.repeats);
  const std::chrono::duration<double> passed = std::chrono::steady_clock::now() - start;
  report(arguments, job, std::move(found), passed.count());
}

int run_rank(const FindLrArguments& arguments, const Job& job, int rank, int world_fd,
             const Terminal& terminal) {
  try {
    run_as_rank(arguments, job, *shm::World::open(world_fd).join(rank), terminal);
  } catch (const std::exception& error) {
    std::cerr << message_of(error) << '\n';
    return exit_code_of_rank(error);
  }
  return static_cast<int>(ExitCode::kOk);
}

int run_on_own_ranks(const FindLrArguments& arguments, const Job& job) {
  require_shared_memory(job);
  Terminal terminal = Terminal::of(STDERR_FILENO);
  const FileDescriptor shown(::dup(STDERR_FILENO));
  terminal.fd = shown.fd();
  const FileDescriptor nowhere(::open("/dev/null", O_WRONLY | O_CLOEXEC));
  LaunchOptions options;
  options.ranks = job.ranks;
  options.pin_to_cores = job.config.parallelism.pin;
  options.stderr_fd = nowhere.fd();  // errors are reported here
  options.world.timeout = job.plan.transport.timeout;
  const ExitReport report = launch(options, [&](int rank, int world_fd) {
    return run_rank(arguments, job, rank, world_fd, terminal);
  });
  if (report.failed_rank >= 0) {
    const bool has_lines = report.status.signal == 0 && !report.last_lines.empty();
    std::cerr << fmt::format(
        "trireme: {}\n",
        has_lines ? report.last_lines.back()
                  : fmt::format("find-lr: rank {}: {}", report.failed_rank, report.explanation));
  }
  return report.exit_code;
}

int run_as_started_rank(const FindLrArguments& arguments, Job job,
                        const RankEnvironment& environment) {
  end_on_signals();
  const Terminal terminal = Terminal::of(STDERR_FILENO);
  try {
    const auto world = join_world(job, environment, terminal);
    take_cores(job, environment, *world);
    run_as_rank(arguments, job, *world, terminal);
    return static_cast<int>(ExitCode::kOk);
  } catch (const std::exception& error) {
    terminal.write(fmt::format("trireme: rank {} of {}: {}\n", environment.rank,
                               environment.world_size, message_of(error)));
    return exit_code_of_rank(error);
  }
}

int find_lr(const FindLrArguments& arguments) {
  plan::check(arguments.range);
  const RankEnvironment environment = read_environment();
  const ConfigurationWords words = parse_words("find-lr", arguments.words);
  Job job;
  job.config = read_configuration("find-lr", words, environment);
  if (arguments.write) file_to_write(words, job.config);
  plan_job(job, "find-lr", arguments.ranks, environment);
  require_own_servers(job.plan);
  return is_started_rank(environment) ? run_as_started_rank(arguments, job, environment)
                                      : run_on_own_ranks(arguments, job);
}

}  // namespace

void add_find_lr(CLI::App& app, int& exit_code) {
  auto arguments = std::make_shared<FindLrArguments>();
  CLI::App* command = app.add_subcommand(
      "find-lr", "Raise the learning rate step by step, and suggest one by the loss");
  command->add_option("file", arguments->words, "FILE.toml and overrides section.key=value");
  command->add_option("-n,--ranks", arguments->ranks, "how many ranks (default: one a core)")
      ->check(CLI::Range(1, 256));
  command->add_option("--from", arguments->range.from, "the lowest rate (default: 1e-7)")
      ->check(CLI::PositiveNumber);
  command->add_option("--to", arguments->range.to, "the highest rate (default: 10)")
      ->check(CLI::PositiveNumber);
  command->add_option("--steps", arguments->range.steps, "of a repeat (default: 100)")
      ->check(CLI::Range(std::int64_t{10}, std::int64_t{1'000'000}));
  command->add_option("--repeats", arguments->repeats, "each on other data (default: 3)")
      ->check(CLI::Range(1, 1000));
  command->add_option("--svg", arguments->svg, "draw the curve into this file");
  command->add_flag("--json", arguments->json, "print one JSON object");
  command->add_flag("--write", arguments->write,
                    "set optimizer.lr in FILE.toml to what is suggested");
  command->footer(
      "    trireme find-lr run.toml -n 2 --svg curve.svg\n"
      "    trireme find-lr run.toml --from 1e-5 --to 1 --steps 200 --write\n"
      "A range test (Smith 2017) of the model's first values. Nothing is kept of it:\n"
      "run.directory is not touched. docs/find-lr.md says how the rate is chosen.\n"
      "Exit codes: 0 a rate is suggested, 2 command line or configuration, or no rate can be\n"
      "suggested, 3 data, 4 a rank did not come.");
  command->callback([arguments, &exit_code] { exit_code = find_lr(*arguments); });
}

}  // namespace trireme::cli
