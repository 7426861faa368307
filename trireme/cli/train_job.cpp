#include "trireme/cli/train_job.h"

#include <c10/util/Exception.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <iostream>
#include <new>

#include "trireme/base/error.h"
#include "trireme/base/file_descriptor.h"
#include "trireme/base/files.h"
#include "trireme/checkpoint/checkpoint.h"
#include "trireme/cli/configuration_words.h"
#include "trireme/cli/progress.h"
#include "trireme/cli/run_summary.h"
#include "trireme/launch/exit_codes.h"
#include "trireme/launch/heap.h"
#include "trireme/train/run_directory.h"
#include "trireme/train/train.h"
#include "trireme/world/connect.h"

namespace trireme::cli {

namespace {

// Memory that was freed during setup returns to the system; after the first step it is kept.
class RankProgress final : public Progress {
 public:
  using Progress::Progress;
  void on_start(const RunDescription& run) override {
    keep_freed_memory();
    Progress::on_start(run);
  }
};

// If rank 0 rejects the run directory, every rank throws the same error.
void agree_to_begin(const Job& job, Communicator& world) {
  std::array<std::uint8_t, 1024> text{};
  if (world.rank() == 0) {
    try {
      if (!job.resume) clear_directory(job);
    } catch (const UsageError& error) {
      std::strncpy(reinterpret_cast<char*>(text.data()), error.what(), text.size() - 1);
    }
  }
  world.broadcast(buffer_of(std::span<std::uint8_t>(text)), 0).wait();
  if (text[0] != 0) throw UsageError(reinterpret_cast<const char*>(text.data()));
}

ConnectOptions options_of(const plan::Transport& transport) {
  return {.backend = transport.backend,
          .timeout = transport.timeout,
          .heartbeat_timeout = transport.heartbeat_timeout,
          .reproducible = transport.reproducible,
          .interface_address = transport.interface_address};
}

}  // namespace

Job job_of(const TrainArguments& arguments, const RankEnvironment& environment) {
  auto [file, overrides] = parse_words("train", arguments.words);
  Job job{.overwrite = arguments.overwrite, .json = arguments.json};
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
  job.config = job.resume ? read_run_config(file, overrides) : read_config(file, overrides);
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
  resolve(job.config.training, job.ranks, ranks_of_host(environment, job.ranks));
  job.plan = check(job.config, job.ranks);
  return job;
}

void clear_directory(const Job& job) {
  const std::filesystem::path directory = job.config.run.directory;
  const RunDirectory run{directory};
  const bool checkpoint = latest_checkpoint(run.checkpoints()).has_value();
  Files& files = real_files();
  if (!checkpoint && files.kind_of(run.model()) == FileKind::kNone) return;
  if (!job.overwrite) {
    throw UsageError(fmt::format(
        "run.directory: {} holds a run; choose another one, {}or replace it by --overwrite",
        directory.string(),
        checkpoint ? fmt::format("go on with `trireme train --resume {}`, ", directory.string())
                   : ""));
  }
  try {
    files.remove(run.logs());
  } catch (const DataError&) {
    // The new run's lines follow the old ones.
  }
}

std::string message_of(const std::exception& error) {
  if (dynamic_cast<const std::bad_alloc*>(&error) != nullptr) return "out of memory";
  std::string message = error.what();
  if (const auto* torch = dynamic_cast<const c10::Error*>(&error)) {
    message = torch->what_without_backtrace();
  }
  while (!message.empty() && message.back() == '\n') message.pop_back();
  return message.substr(0, message.find('\n'));
}

FileDescriptor open_log(const RunDirectory& run, int rank) {
  const std::filesystem::path path = run.logs() / fmt::format("rank-{}.log", rank);
  std::error_code error;
  std::filesystem::create_directories(run.logs(), error);
  FileDescriptor log(::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666));
  if (log.is_open()) return log;
  throw UsageError(fmt::format("run.directory must be a folder to write in, got {}: {}",
                               run.root.string(), std::strerror(errno)));
}

int exit_code_of_rank(const std::exception& error) {
  const bool diverged = dynamic_cast<const DivergedError*>(&error) != nullptr;
  return static_cast<int>(diverged ? ExitCode::kDiverged : exit_code_of(error));
}

int train_as_rank(const Job& job, Communicator& world, const Terminal& terminal) {
  RankProgress progress(world.rank(), terminal);
  try {
    const RunSummary summary = train(job.config, world, progress, job.resume);
    progress.clear();
    if (world.rank() == 0) {
      std::cout << (job.json ? summary_json(summary) : summary_text(summary)) << std::flush;
    }
    return static_cast<int>(summary.interrupted ? ExitCode::kInterrupted : ExitCode::kOk);
  } catch (...) {
    progress.clear();
    throw;
  }
}

bool is_started_rank(const RankEnvironment& environment) {
  return environment.starter != Starter::kNone;
}

int train_as_started_rank(const Job& job, const RankEnvironment& environment) {
  // A write beyond a limit of file size then fails with an error, as on a full disk.
  ::signal(SIGXFSZ, SIG_IGN);
  stop_on_signals();
  Terminal terminal = Terminal::of(STDERR_FILENO);
  const FileDescriptor shown(::dup(STDERR_FILENO));
  terminal.fd = shown.fd();
  std::unique_ptr<Communicator> world;
  const RunDirectory directory{job.config.run.directory};
  try {
    const ConnectOptions options = options_of(job.plan.transport);
    const std::string warning = warning_for(environment, options);
    if (!warning.empty()) terminal.write("trireme: warning: " + warning + "\n");
    world = connect(environment, options);
    agree_to_begin(job, *world);
    const FileDescriptor log = open_log(directory, environment.rank);
    ::dup2(log.fd(), STDERR_FILENO);
    return train_as_rank(job, *world, terminal);
  } catch (const std::exception& error) {
    // An error that all ranks find is written by rank 0 only.
    const bool found_by_all = world && dynamic_cast<const UsageError*>(&error) != nullptr;
    if (!found_by_all || environment.rank == 0) {
      terminal.write(fmt::format("trireme: rank {} of {}: {}\n", environment.rank,
                                 environment.world_size, message_of(error)));
    }
    return exit_code_of_rank(error);
  }
}

}  // namespace trireme::cli
