#include "trireme/cli/train_job.h"

#include <fcntl.h>
#include <fmt/format.h>
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
#include "trireme/cli/configuration_words.h"
#include "trireme/cli/error_text.h"
#include "trireme/cli/progress.h"
#include "trireme/cli/rank_threads.h"
#include "trireme/cli/resume.h"
#include "trireme/cli/run_summary.h"
#include "trireme/cli/stop_signals.h"
#include "trireme/formats/safetensors_index.h"
#include "trireme/launch/core_share.h"
#include "trireme/launch/exit_codes.h"
#include "trireme/launch/heap.h"
#include "trireme/launch/machine.h"
#include "trireme/train/checkpointer.h"
#include "trireme/train/run_directory.h"
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
  const auto [file, overrides] = parse_words("train", arguments.words);
  Job job{.allow_changed_data = arguments.allow_changed_data,
          .overwrite = arguments.overwrite,
          .json = arguments.json};
  std::optional<ResumedRun> resumed;
  std::optional<RunState> state;
  if (arguments.resume == kAuto && (arguments.step || arguments.overwrite)) {
    throw UsageError(fmt::format(
        "train: --resume auto goes on from the newest checkpoint and replaces nothing: leave out "
        "{}",
        arguments.step ? "--step" : "--overwrite"));
  }
  if (!arguments.resume.empty() && arguments.resume != kAuto) {
    if (!file.empty()) {
      throw UsageError(
          "train: --resume RUN goes on with that run's own configuration; leave out "
          "the file, and change keys by section.key=value; --resume auto takes the file and "
          "decides itself");
    }
    const auto moves = [](const std::string& word) { return word.starts_with("run.directory="); };
    if (std::ranges::any_of(overrides, moves)) {
      throw UsageError(
          "train: a run that is resumed goes on in its own directory: leave out run.directory, or "
          "copy the directory and resume the copy");
    }
    resumed = resumed_run(arguments);
    state = state_to_resume(*resumed, environment.world_size > 1);
    job.resume = true;
  }
  job.config = resumed ? config_of_run(*resumed, overrides)
                       : read_configuration("train", {file, overrides}, environment);
  if (resumed) {
    job.config.run.directory = resumed->directory.root.string();
    job.step = resumed->step;
    if (state) job.changes = require_config_of(*state, job.config, resumed->directory);
  }
  plan_job(job, "train", arguments.ranks, environment);
  return job;
}

void plan_job(Job& job, const std::string& command, int ranks, const RankEnvironment& environment) {
  if (is_started_rank(environment)) {
    if (ranks > 0 && ranks != environment.world_size) {
      throw UsageError(
          fmt::format("{}: -n {} was given, and {} say that this is one of {} ranks; leave out -n",
                      command, ranks, environment.variables, environment.world_size));
    }
    job.ranks = environment.world_size;
  } else {
    job.ranks = ranks > 0 ? ranks : default_ranks(job.config);
  }
  job.threads = decided_threads(job.config, environment);
  // A run that resumes on another number of ranks is the same run.
  if (job.config.training.virtual_workers == 0) job.config.training.virtual_workers = job.ranks;
  take_share(job, presumed_share(environment, ranks_of_host(environment, job.ranks)), 0);
  job.plan = check(job.config, job.ranks);
}

void require_shared_memory(const Job& job) {
  const std::string& backend = job.plan.transport.backend;
  if (backend == "auto" || backend == "shm") return;
  throw UsageError(
      fmt::format("communication.backend: \"{}\" joins ranks that mpirun, srun or torchrun has "
                  "started; the ranks that trireme starts itself share memory",
                  backend));
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

std::unique_ptr<Communicator> join_world(const Job& job, const RankEnvironment& environment,
                                         const Terminal& terminal) {
  ConnectOptions options = options_of(job.plan.transport);
  if (environment.local_rank == 0) {
    options.on_notice = [&](const std::string& text) {
      terminal.write(fmt::format("trireme: rank {} of {}: {}\n", environment.rank,
                                 environment.world_size, text));
    };
  }
  const std::string warning = warning_for(environment, options);
  if (!warning.empty()) terminal.write("trireme: warning: " + warning + "\n");
  return connect(environment, options);
}

void take_cores(Job& job, const RankEnvironment& environment, Communicator& world) {
  const CoreShare share = share_cores(world);
  take_share(job, share, cores_withheld_by_launcher(environment, share));
  if (job.config.parallelism.pin && share.is_own) run_on_cores(share.cores);
}

int train_as_started_rank(Job job, const TrainArguments& arguments,
                          const RankEnvironment& environment) {
  // A write beyond a limit of file size then fails with an error, as on a full disk.
  ::signal(SIGXFSZ, SIG_IGN);
  end_on_signals();
  Terminal terminal = Terminal::of(STDERR_FILENO);
  const FileDescriptor shown(::dup(STDERR_FILENO));
  terminal.fd = shown.fd();
  std::unique_ptr<Communicator> world;
  try {
    world = join_world(job, environment, terminal);
    if (arguments.resume == kAuto) {
      job = decided_job(job, arguments, environment, *world);
      if (world->rank() == 0) {
        for (const std::string& change : job.changes) terminal.write("trireme: " + change + "\n");
      }
      if (job.complete_after) {
        if (world->rank() == 0) std::cout << complete_text(job);
        flush_stdout();
        return static_cast<int>(ExitCode::kOk);
      }
    }
    take_cores(job, environment, *world);
    std::unique_ptr<RunLock> lock;
    agree(*world, [&] {
      if (world->rank() == 0) lock = claim_directory(job);
      return std::string();
    });
    const FileDescriptor log = open_log({job.config.run.directory}, environment.rank);
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
