#include "trireme/cli/train_job.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <iostream>
#include <optional>

#include "trireme/base/error.h"
#include "trireme/base/file_descriptor.h"
#include "trireme/base/files.h"
#include "trireme/base/text.h"
#include "trireme/checkpoint/agreement.h"
#include "trireme/checkpoint/checkpoint.h"
#include "trireme/checkpoint/step_folder.h"
#include "trireme/cli/configuration_words.h"
#include "trireme/cli/error_text.h"
#include "trireme/cli/progress.h"
#include "trireme/cli/rank_threads.h"
#include "trireme/cli/run_summary.h"
#include "trireme/cli/stop_signals.h"
#include "trireme/config/difference.h"
#include "trireme/formats/safetensors_index.h"
#include "trireme/launch/core_share.h"
#include "trireme/launch/exit_codes.h"
#include "trireme/launch/heap.h"
#include "trireme/launch/machine.h"
#include "trireme/train/checkpointer.h"
#include "trireme/train/run_directory.h"
#include "trireme/train/sealed_text.h"
#include "trireme/train/train.h"
#include "trireme/world/connect.h"

namespace trireme::cli {

namespace {

// Memory that was freed during setup returns to the system; after the first step it is kept. Before
// it there is nothing to save: a signal ends the rank at once, whatever it waits for.
class RankProgress final : public Progress {
 public:
  using Progress::Progress;
  void on_start(const RunDescription& run) override {
    stop_on_signals();
    keep_freed_memory();
    Progress::on_start(run);
  }
};

// Decides the threads of a rank with this part of its host's cores.
void take_share(Job& job, const CoreShare& share, int withheld) {
  const ThreadChoice choice = job.threads.value_or(threads_of_share(share));
  job.config.training.threads = choice.threads;
  job.banner = "threads: " + line_on_threads(job.config, choice, share, withheld);
}

// The usual timeout leaves it to the launcher, which may have been given another one.
std::optional<std::chrono::milliseconds> timeout_of(const plan::Transport& transport) {
  static const double usual = Config().communication.transport.timeout;
  const bool is_usual = transport.timeout == std::chrono::duration<double>(usual);
  return is_usual ? std::nullopt : std::optional(transport.timeout);
}

ConnectOptions options_of(const plan::Transport& transport) {
  return {.backend = transport.backend,
          .timeout = timeout_of(transport),
          .heartbeat_timeout = transport.heartbeat_timeout,
          .reproducible = transport.reproducible,
          .interface_address = transport.interface_address};
}

// A run and the step of its checkpoint that `--resume` and `--step` name.
struct ResumedRun {
  RunDirectory directory;
  std::optional<std::int64_t> step;
};

ResumedRun resumed_run(const TrainArguments& arguments) {
  std::filesystem::path path = arguments.resume;
  if (!path.has_filename()) path = path.parent_path();
  ResumedRun run{{path}, arguments.step};
  const auto step = step_of_folder(path.filename().string());
  const std::filesystem::path checkpoints = std::filesystem::absolute(path).parent_path();
  if (!step || checkpoints.filename() != RunDirectory{}.checkpoints().filename()) return run;
  if (run.step && run.step != step) {
    throw UsageError(
        fmt::format("train: --step {} and --resume {} name two checkpoints; leave one out",
                    *run.step, arguments.resume));
  }
  const auto root = path.parent_path().parent_path();
  return {{root.empty() ? checkpoints.parent_path() : root}, step};
}

// The state in the checkpoint to resume from or, without a step, in the newest that can be read.
// Nothing if one of several hosts lacks it: which do so, the ranks find out together.
std::optional<RunState> state_to_resume(const ResumedRun& run, bool is_one_of_several) {
  const std::string folder = run.directory.checkpoints().string();
  const auto checkpoints = complete_checkpoints(run.directory.checkpoints(), real_files());
  const bool is_there = run.step ? checkpoints.contains(*run.step) : !checkpoints.empty();
  if (!is_there && is_one_of_several) return std::nullopt;
  if (checkpoints.empty()) {
    const std::string root = run.directory.root.string();
    if (real_files().kind_of(run.directory.root) != FileKind::kDirectory) {
      throw UsageError(fmt::format("train: --resume must name the directory of a run, {} {}", root,
                                   real_files().kind_of(run.directory.root) == FileKind::kNone
                                       ? "does not exist"
                                       : "is not a directory"));
    }
    throw UsageError(
        fmt::format("train: {} holds no checkpoint to resume from; start the run anew "
                    "from its configuration",
                    folder));
  }
  if (run.step) {
    const auto found = checkpoints.find(*run.step);
    if (found != checkpoints.end()) return state_of_checkpoint(found->second);
    std::vector<std::int64_t> steps;
    for (const auto& [step, path] : checkpoints) steps.push_back(step);
    throw UsageError(fmt::format("train: {} holds no checkpoint of step {}, only of {}", folder,
                                 *run.step, fmt::join(steps, ", ")));
  }
  for (auto checkpoint = checkpoints.rbegin(); checkpoint != checkpoints.rend(); ++checkpoint) {
    try {
      return state_of_checkpoint(checkpoint->second);
    } catch (const DataError&) {
      // The run falls back to an older one, too, and says so.
    }
  }
  return std::nullopt;
}

// The checkpoint is what was trained: config.toml may have been changed since, by hand or by a torn
// copy. Returns what the command line has changed, a sentence each.
std::vector<std::string> require_config_of(const RunState& state, const Config& config,
                                           const RunDirectory& run) {
  const std::string name = fmt::format("the checkpoint of step {}", state.step);
  const std::optional<Config> written = config_of_checkpoint(state, name);
  if (!written) return {};
  std::vector<std::string> changes, refused, words;
  const Config absolute = with_absolute_paths(config, std::filesystem::current_path());
  // An earlier --resume may have changed keys after this checkpoint was written.
  const bool is_as_written = is_sealed(read_file(run.config()));
  for (const KeyDifference& difference : differences(absolute, *written)) {
    const auto origin = config.origins.find(difference.key);
    const bool was_asked_for = origin != config.origins.end() &&
                               origin->second.source == Config::Origin::Source::kCommandLine;
    // Refused by every rank, asked for or not.
    if (was_asked_for && is_kept_by_run(difference.key)) continue;
    std::string text = fmt::format("{} is {}, {} has {}", difference.key, difference.value, name,
                                   difference.other);
    if (was_asked_for || is_as_written) {
      changes.push_back(std::move(text));
      continue;
    }
    refused.push_back(std::move(text));
    words.push_back(shell_quoted(fmt::format("{}={}", difference.key, difference.other)));
  }
  if (refused.empty()) return changes;
  throw UsageError(
      fmt::format("{} is not the configuration that was trained with: {}; say on the command line "
                  "which value is meant, for those of the checkpoint: {}",
                  run.config().string(), fmt::join(refused, "; "), fmt::join(words, " ")));
}

// Of the signal that came to this rank, if one did.
int exit_code_of_stop() {
  const int signal = stop_signal();
  return signal != 0 ? exit_code_of_signal(signal) : static_cast<int>(ExitCode::kInterrupted);
}

[[noreturn]] void refuse_directory(const RunDirectory& run, const DataError& error) {
  throw DataError(fmt::format("run.directory must be a folder to write in, got {}: {}",
                              run.root.string(), error.what()));
}

}  // namespace

Job job_of(const TrainArguments& arguments, const RankEnvironment& environment) {
  auto [file, overrides] = parse_words("train", arguments.words);
  Job job{.allow_changed_data = arguments.allow_changed_data,
          .overwrite = arguments.overwrite,
          .json = arguments.json};
  std::optional<ResumedRun> resumed;
  std::optional<RunState> state;
  if (!arguments.resume.empty()) {
    if (!file.empty()) {
      throw UsageError(
          "train: --resume RUN goes on with that run's own configuration; leave out "
          "the file, and change keys by section.key=value");
    }
    const auto moves = [](const std::string& word) { return word.starts_with("run.directory="); };
    if (std::ranges::any_of(overrides, moves)) {
      throw UsageError(
          "train: a run that is resumed goes on in its own directory: leave out run.directory, or "
          "copy the directory and resume the copy");
    }
    resumed = resumed_run(arguments);
    state = state_to_resume(*resumed, environment.world_size > 1);
    file = resumed->directory.config();
    job.resume = true;
  }
  job.config = job.resume ? read_run_config(file, overrides)
                          : read_configuration("train", {file, overrides}, environment);
  if (resumed) {
    job.config.run.directory = resumed->directory.root.string();
    job.step = resumed->step;
    if (state) job.changes = require_config_of(*state, job.config, resumed->directory);
  }
  if (is_started_rank(environment)) {
    if (arguments.ranks > 0 && arguments.ranks != environment.world_size) {
      throw UsageError(fmt::format(
          "train: -n {} was given, and {} say that this is one of {} ranks; leave out -n",
          arguments.ranks, environment.variables, environment.world_size));
    }
    job.ranks = environment.world_size;
  } else {
    job.ranks = arguments.ranks > 0 ? arguments.ranks : default_ranks(job.config);
  }
  job.threads = decided_threads(job.config, environment);
  // A run that resumes on another number of ranks is the same run.
  if (job.config.training.virtual_workers == 0) job.config.training.virtual_workers = job.ranks;
  take_share(job, presumed_share(environment, ranks_of_host(environment, job.ranks)), 0);
  job.plan = check(job.config, job.ranks);
  return job;
}

std::unique_ptr<RunLock> claim_directory(const Job& job) {
  const RunDirectory run{job.config.run.directory};
  if (!job.resume) require_own_directory(run);
  std::unique_ptr<RunLock> lock;
  try {
    lock = std::make_unique<RunLock>(run);
  } catch (const DataError& error) {
    refuse_directory(run, error);
  }
  if (job.resume) return lock;
  const bool checkpoint = latest_checkpoint(run.checkpoints()).has_value();
  const std::filesystem::path model = safetensors_file_or_index(run.model());
  if (!checkpoint && real_files().kind_of(model) == FileKind::kNone) return lock;
  if (!job.overwrite) {
    const std::string root = run.root.string();
    throw UsageError(fmt::format(
        "run.directory: {} holds a run; choose another one, {}or replace it by --overwrite", root,
        checkpoint ? fmt::format("go on with `trireme train --resume {}`, ", shell_quoted(root))
                   : ""));
  }
  try {
    remove_logs(run);
  } catch (const DataError&) {
    // The new run's lines follow the old ones.
  }
  return lock;
}

FileDescriptor open_log(const RunDirectory& run, int rank) {
  const std::filesystem::path path = run.logs() / fmt::format("rank-{}.log", rank);
  try {
    make_directories(run.logs());
    real_files().open_to_append(path);  // says what is wrong with it
  } catch (const DataError& error) {
    refuse_directory(run, error);
  }
  return FileDescriptor(::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666));
}

int train_as_rank(const Job& job, Communicator& world, const Terminal& terminal) {
  RankProgress progress(world.rank(), terminal, {job.banner});
  try {
    const RunSummary summary = train(job.config, world, progress,
                                     {.resume = job.resume,
                                      .step = job.step,
                                      .allow_changed_data = job.allow_changed_data,
                                      .holds_lock = true});
    progress.clear();
    if (world.rank() == 0) {
      std::cout << (job.json ? summary_json(summary) : summary_text(summary));
      flush_stdout();
    }
    if (!summary.is_complete) throw DataError(summary.not_written.back());
    return summary.interrupted ? exit_code_of_stop() : static_cast<int>(ExitCode::kOk);
  } catch (...) {
    progress.clear();
    throw;
  }
}

bool is_started_rank(const RankEnvironment& environment) {
  return environment.starter != Starter::kNone;
}

int train_as_started_rank(Job job, const RankEnvironment& environment) {
  // A write beyond a limit of file size then fails with an error, as on a full disk.
  ::signal(SIGXFSZ, SIG_IGN);
  end_on_signals();
  Terminal terminal = Terminal::of(STDERR_FILENO);
  const FileDescriptor shown(::dup(STDERR_FILENO));
  terminal.fd = shown.fd();
  std::unique_ptr<Communicator> world;
  const RunDirectory directory{job.config.run.directory};
  try {
    ConnectOptions options = options_of(job.plan.transport);
    if (environment.local_rank == 0) {
      options.on_notice = [&](const std::string& text) {
        terminal.write(fmt::format("trireme: rank {} of {}: {}\n", environment.rank,
                                   environment.world_size, text));
      };
    }
    const std::string warning = warning_for(environment, options);
    if (!warning.empty()) terminal.write("trireme: warning: " + warning + "\n");
    world = connect(environment, options);
    const CoreShare share = share_cores(*world);
    take_share(job, share, cores_withheld_by_launcher(environment, share));
    if (job.config.parallelism.pin && share.is_own) run_on_cores(share.cores);
    std::unique_ptr<RunLock> lock;
    agree(*world, [&] {
      if (world->rank() == 0) lock = claim_directory(job);
      return std::string();
    });
    const FileDescriptor log = open_log(directory, environment.rank);
    ::dup2(log.fd(), STDERR_FILENO);
    return train_as_rank(job, *world, terminal);
  } catch (const std::exception& error) {
    // An error that all ranks find is written once on each host.
    const bool found_by_all = world && dynamic_cast<const UsageError*>(&error) != nullptr;
    if (!found_by_all || environment.local_rank == 0) {
      terminal.write(fmt::format("trireme: rank {} of {}: {}\n", environment.rank,
                                 environment.world_size, message_of(error)));
    }
    return exit_code_of_rank(error);
  }
}

}  // namespace trireme::cli
