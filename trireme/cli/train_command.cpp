#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <iostream>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "trireme/base/error.h"
#include "trireme/checkpoint/checkpoint.h"
#include "trireme/cli/closing_card.h"
#include "trireme/cli/commands.h"
#include "trireme/cli/failure_box.h"
#include "trireme/cli/progress.h"
#include "trireme/comm/shm/world.h"
#include "trireme/launch/exit_codes.h"
#include "trireme/launch/heap.h"
#include "trireme/launch/launcher.h"
#include "trireme/train/run_directory.h"
#include "trireme/train/train.h"

namespace trireme::cli {

namespace {

struct TrainArguments {
  std::vector<std::string> words;  // FILE.toml and section.key=value
  int ranks = 0;
  std::string resume;
  bool dry_run = false;
  bool json = false;
};

// What the command line asks for.
struct Job {
  Config config;
  int ranks = 1;
  bool resume = false;
  bool json = false;
};

// One a core, and no more than there is work for.
int default_ranks(const Config& config) {
  const std::int64_t workers = config.training.virtual_workers;
  return workers == 0 ? usable_cores()
                      : static_cast<int>(std::min<std::int64_t>(workers, usable_cores()));
}

// What depends on the ranks is written down, so that resuming on others is the same run.
void resolve(Config::Training& training, int ranks) {
  if (training.virtual_workers == 0) training.virtual_workers = ranks;
  if (training.threads == 0) training.threads = std::max(1, usable_cores() / ranks);
}

Job job_of(const TrainArguments& arguments) {
  std::filesystem::path file;
  std::vector<std::string> overrides;
  for (const std::string& word : arguments.words) {
    if (word.find('=') != std::string::npos) {
      overrides.push_back(word);
    } else if (file.empty()) {
      file = word;
    } else {
      throw UsageError(fmt::format(
          "train: one configuration file and section.key=value are wanted, got \"{}\" as well as "
          "\"{}\"",
          word, file.string()));
    }
  }
  Job job{.json = arguments.json};
  if (!arguments.resume.empty()) {
    if (!file.empty()) {
      throw UsageError(
          "train: --resume RUN goes on with that run's own configuration; leave out "
          "the file, and change keys by section.key=value");
    }
    const RunDirectory run{arguments.resume};
    if (!latest_checkpoint(run.checkpoints())) {
      throw UsageError(
          fmt::format("train: {} holds no checkpoint to resume from", run.checkpoints().string()));
    }
    file = run.config();
    overrides.push_back(fmt::format("run.directory=\"{}\"", arguments.resume));
    job.resume = true;
  }
  if (file.empty() && overrides.empty()) {
    throw UsageError("train: no configuration; write one with `trireme init linear > run.toml`");
  }
  job.config = read_config(file, overrides);
  job.ranks = arguments.ranks > 0 ? arguments.ranks : default_ranks(job.config);
  resolve(job.config.training, job.ranks);
  check(job.config, job.ranks);
  return job;
}

int run_rank(const Job& job, int rank, int world_fd, const Terminal& terminal) {
  stop_on_signals();
  keep_freed_memory();
  Progress progress(rank, terminal);
  try {
    const auto communicator = shm::World::open(world_fd).join(rank);
    const RunSummary summary = train(job.config, *communicator, progress, job.resume);
    progress.clear();
    if (rank == 0) {
      std::cout << (job.json ? summary_json(summary) : closing_card(summary)) << std::flush;
    }
    return static_cast<int>(summary.interrupted ? ExitCode::kInterrupted : ExitCode::kOk);
  } catch (const std::exception& error) {
    progress.clear();
    std::fprintf(stderr, "%s\n", error.what());
    const bool diverged = dynamic_cast<const DivergedError*>(&error) != nullptr;
    return static_cast<int>(diverged ? ExitCode::kDiverged : exit_code_of(error));
  }
}

// The logs of a run that never began are no use to anybody.
void remove_if_never_begun(const RunDirectory& run, bool existed) {
  if (std::filesystem::exists(run.config())) return;
  std::error_code ignored;
  std::filesystem::remove_all(run.logs(), ignored);
  if (!existed) std::filesystem::remove(run.root, ignored);
}

bool is_plain_error(const Verdict& verdict) {
  const int code = verdict.status.code;
  return verdict.status.signal == 0 &&
         (code == static_cast<int>(ExitCode::kUsage) || code == static_cast<int>(ExitCode::kData) ||
          code == static_cast<int>(ExitCode::kDiverged));
}

void explain_failure(const Verdict& verdict, const Job& job, const Terminal& terminal) {
  const RunDirectory run{job.config.run.directory};
  const std::string resume = latest_checkpoint(run.checkpoints())
                                 ? fmt::format("trireme train --resume {}", run.root.string())
                                 : std::string();
  if (is_plain_error(verdict) && !verdict.last_lines.empty()) {
    terminal.write(fmt::format("trireme: {}\n", verdict.last_lines.back()));
    return;
  }
  Verdict shown = verdict;
  if (shown.log.empty()) {
    shown.log = (run.logs() / fmt::format("rank-{}.log", shown.rank_at_fault)).string();
  }
  terminal.write(failure_box(shown, resume, terminal));
}

int run(const Job& job) {
  const RunDirectory directory{job.config.run.directory};
  const bool existed = std::filesystem::exists(directory.root);
  std::error_code error;
  std::filesystem::create_directories(directory.logs(), error);
  const std::string first_log = (directory.logs() / "rank-0.log").string();
  const int log = ::open(first_log.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  if (log < 0) {
    throw UsageError(
        fmt::format("run.directory: cannot write {}: {}", first_log, std::strerror(errno)));
  }
  // Rank 0's stderr goes to its log like everybody's; its live line goes to ours.
  Terminal terminal = Terminal::of(STDERR_FILENO);
  terminal.fd = ::dup(STDERR_FILENO);
  LaunchOptions options;
  options.ranks = job.ranks;
  options.log_directory = directory.logs();
  options.pin_to_cores = job.config.parallelism.pin;
  options.stderr_fd = log;
  options.world.timeout =
      std::chrono::milliseconds(static_cast<std::int64_t>(1000 * job.config.communication.timeout));
  const Verdict verdict = launch(
      options, [&](int rank, int world_fd) { return run_rank(job, rank, world_fd, terminal); });
  ::close(log);
  if (verdict.rank_at_fault >= 0) explain_failure(verdict, job, terminal);
  if (!verdict.ok()) remove_if_never_begun(directory, existed);
  ::close(terminal.fd);
  return verdict.exit_code;
}

}  // namespace

void add_train(CLI::App& app, int& exit_code) {
  auto arguments = std::make_shared<TrainArguments>();
  CLI::App* command = app.add_subcommand("train", "Train what a TOML file describes");
  command->add_option("file", arguments->words, "FILE.toml and overrides section.key=value");
  command->add_option("-n,--ranks", arguments->ranks, "how many ranks (default: one a core)")
      ->check(CLI::PositiveNumber);
  command->add_option("--resume", arguments->resume,
                      "go on from the newest checkpoint in this run directory");
  command->add_flag("--dry-run", arguments->dry_run,
                    "check everything that needs no data, print the resolved configuration");
  command->add_flag("--json", arguments->json, "print the result as JSON");
  command->footer(
      "    trireme init cnn > run.toml\n"
      "    trireme train run.toml -n 2 optimizer.lr=3e-4 run.directory=out\n"
      "`trireme keys` lists every key. Ctrl-C saves a checkpoint and stops.");
  command->callback([arguments, &exit_code] {
    const Job job = job_of(*arguments);
    if (arguments->dry_run) {
      std::cout << to_toml(job.config);
      return;
    }
    exit_code = run(job);
  });
}

}  // namespace trireme::cli
