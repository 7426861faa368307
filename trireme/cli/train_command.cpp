#include <fmt/format.h>
#include <signal.h>
#include <unistd.h>

#include <cstdio>
#include <iostream>
#include <memory>
#include <string>

#include "trireme/base/error.h"
#include "trireme/base/files.h"
#include "trireme/base/text.h"
#include "trireme/checkpoint/checkpoint.h"
#include "trireme/cli/commands.h"
#include "trireme/cli/error_text.h"
#include "trireme/cli/failure_report.h"
#include "trireme/cli/progress.h"
#include "trireme/cli/resume.h"
#include "trireme/cli/train_job.h"
#include "trireme/comm/shm/world.h"
#include "trireme/config/key_use.h"
#include "trireme/launch/exit_codes.h"
#include "trireme/launch/exit_status.h"
#include "trireme/launch/launcher.h"
#include "trireme/train/run_directory.h"
#include "trireme/train/train.h"

namespace trireme::cli {

namespace {

int run_rank(const Job& job, int rank, int world_fd, const Terminal& terminal) {
  try {
    return train_as_rank(job, *shm::World::open(world_fd).join(rank), terminal);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", message_of(error).c_str());
    return exit_code_of_rank(error);
  }
}

// Removes the logs of a run that has failed before its first step, as far as possible.
void remove_if_never_begun(const RunDirectory& run) {
  try {
    if (real_files().kind_of(run.config()) == FileKind::kNone) remove_logs(run);
  } catch (const DataError&) {
    // The error of the run is the one to report.
  }
}

// What tells the newest checkpoint from every other one; empty if there is none.
std::string newest_checkpoint(const RunDirectory& run) {
  const auto newest = latest_checkpoint(run.checkpoints());
  return newest ? newest->string() + read_file(*newest / "manifest.json") : "";
}

// Returns true for errors that one line explains; no progress has been lost.
bool is_plain_error(const ExitReport& report, bool can_resume) {
  if (report.status.signal != 0 || report.last_lines.empty()) return false;
  const int code = report.status.code;
  return code == static_cast<int>(ExitCode::kUsage) ||
         code == static_cast<int>(ExitCode::kDiverged) ||
         (code == static_cast<int>(ExitCode::kData) && !can_resume);
}

// `newest_before`: newest_checkpoint() before the run. Without a newer one, the run that could be
// resumed is an earlier one, or has just been resumed and failed.
void explain_failure(const ExitReport& report, const Job& job, const std::string& newest_before,
                     const Terminal& terminal) {
  const RunDirectory run{job.config.run.directory};
  const std::string newest = newest_checkpoint(run);
  const bool can_resume = !newest.empty() && newest != newest_before;
  if (is_plain_error(report, can_resume)) {
    terminal.write(fmt::format("trireme: {}\n", report.last_lines.back()));
    return;
  }
  const std::string resume =
      can_resume ? fmt::format("trireme train --resume {}", shell_quoted(run.root.string()))
                 : std::string();
  ExitReport shown = report;
  shown.explanation = explain_own(report.status);
  if (shown.log.empty()) {
    shown.log = (run.logs() / fmt::format("rank-{}.log", shown.failed_rank)).string();
  }
  if (real_files().kind_of(shown.log) != FileKind::kFile) shown.log.clear();
  terminal.write(failure_report(shown, resume, terminal));
}

// A rank that was ended by a signal has printed nothing.
void explain_interruption(const ExitReport& report, const Job& job, const Terminal& terminal) {
  if (report.failed_rank >= 0 || report.ok() || report.ranks.front().signal == 0) return;
  const RunDirectory run{job.config.run.directory};
  terminal.write(fmt::format("trireme: {}; {}\n", report.explanation,
                             newest_checkpoint(run).empty()
                                 ? "there is no checkpoint to resume from"
                                 : fmt::format("resume with: trireme train --resume {}",
                                               shell_quoted(run.root.string()))));
}

int run(const Job& job) {
  const RunDirectory directory{job.config.run.directory};
  const std::unique_ptr<RunLock> lock = claim_directory(job);
  const std::string newest_before = newest_checkpoint(directory);
  const FileDescriptor log = open_log(directory, 0);
  // A write beyond a limit of file size then fails with an error, as on a full disk.
  ::signal(SIGXFSZ, SIG_IGN);
  // The stderr of rank 0 goes to its log, as on every rank; its live line goes to the terminal.
  Terminal terminal = Terminal::of(STDERR_FILENO);
  terminal.fd = ::dup(STDERR_FILENO);
  LaunchOptions options;
  options.ranks = job.ranks;
  options.log_directory = directory.logs();
  options.pin_to_cores = job.config.parallelism.pin;
  options.stderr_fd = log.fd();
  options.world.timeout = job.plan.transport.timeout;
  options.ending.tolerates_lost_ranks = job.plan.is_asynchronous();
  const ExitReport report = launch(
      options, [&](int rank, int world_fd) { return run_rank(job, rank, world_fd, terminal); });
  if (!report.ok()) remove_if_never_begun(directory);
  for (const int rank : report.tolerated_failures) {
    const ExitStatus status = report.ranks[static_cast<std::size_t>(rank)];
    terminal.write(fmt::format(
        "trireme: rank {} {}; the others have gone on without it\n", rank,
        status.signal != 0 ? "was " + explain(status) : "has ended with a rank of its group"));
  }
  if (report.failed_rank >= 0) explain_failure(report, job, newest_before, terminal);
  explain_interruption(report, job, terminal);
  ::close(terminal.fd);
  return report.exit_code;
}

}  // namespace

void add_train(CLI::App& app, int& exit_code) {
  auto arguments = std::make_shared<TrainArguments>();
  CLI::App* command = app.add_subcommand("train", "Train what a TOML file describes");
  command->add_option("file", arguments->words, "FILE.toml and overrides section.key=value");
  command->add_option("-n,--ranks", arguments->ranks, "how many ranks (default: one a core)")
      ->check(CLI::Range(1, 256));
  command->add_option("--resume", arguments->resume,
                      "go on from the newest whole checkpoint in this run directory, or from the "
                      "checkpoint RUN/checkpoints/step-N; auto: from what run.directory of "
                      "FILE.toml holds, if it holds a checkpoint, else begin the run");
  command->add_option("--step", arguments->step, "with --resume: the step of the checkpoint")
      ->check(CLI::NonNegativeNumber)
      ->needs("--resume");
  command
      ->add_flag("--allow-changed-data", arguments->allow_changed_data,
                 "with --resume: go on though the files of [data] have changed")
      ->needs("--resume");
  command->add_flag("--overwrite", arguments->overwrite,
                    "replace the run that run.directory holds");
  command->add_flag("--dry-run", arguments->dry_run,
                    "open the data, build the model, print the resolved configuration; no more");
  command->add_flag("--json", arguments->json, "print the result as JSON");
  command->footer(
      "    trireme init cnn > run.toml\n"
      "    trireme train run.toml -n 2 optimizer.lr=3e-4 run.directory=out\n"
      "    trireme train run.toml --resume auto      # in job scripts: as often as it is called\n"
      "`trireme keys` lists every key. Ctrl-C, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1 and the end of\n"
      "training.max_time save a checkpoint and stop; Ctrl-C twice stops at once. The result goes\n"
      "to stdout, all else to stderr.\n"
      "Under mpirun, srun, torchrun or Kubernetes each process trains as the rank it was started "
      "as:\n"
      "    mpirun -n 4 trireme train run.toml\n"
      "Exit codes: 0 done, 2 command line or configuration, 3 data, 4 a rank did not come, 5 the\n"
      "loss, a gradient or a value of the model is not finite, 130 stopped by Ctrl-C or\n"
      "training.max_time, 128 + N: signal N stopped the run or ended a rank.");
  command->callback([arguments, &exit_code] {
    const RankEnvironment environment = read_environment();
    Job job = job_of(*arguments, environment);
    if (arguments->resume == kAuto && !is_started_rank(environment)) {
      job = decided_job(job, *arguments, environment);
    }
    if (environment.rank == 0) {
      for (const std::string& key : dropped_keys(job.config)) {
        std::cerr << "trireme: " << key << '\n';
      }
      for (const std::string& change : job.changes) std::cerr << "trireme: " << change << '\n';
    }
    if (arguments->dry_run) {
      dry_run(job.config, job.ranks);
      std::cout << to_toml(job.config);
      return;
    }
    if (is_started_rank(environment)) {
      exit_code = train_as_started_rank(job, *arguments, environment);
      return;
    }
    if (job.complete_after) {
      std::cout << complete_text(job);
      exit_code = static_cast<int>(ExitCode::kOk);
      return;
    }
    require_shared_memory(job);
    if (!environment.note.empty()) std::cerr << "trireme: note: " << environment.note << '\n';
    exit_code = run(job);
  });
}

}  // namespace trireme::cli
