#pragma once

#include <unistd.h>

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "trireme/base/clock.h"
#include "trireme/base/files.h"
#include "trireme/comm/shm/world.h"
#include "trireme/launch/machine.h"
#include "trireme/launch/rendezvous/job_secret.h"
#include "trireme/launch/supervisor.h"

namespace trireme {

/// The hosts of a world. Each has a launcher of its own and as many ranks as this one.
struct HostsOptions {
  int count = 1;
  int index = 0;               ///< of this host; the ranks of host 0 begin with rank 0
  std::string master_address;  ///< of the first host
  int master_port = 29500;     ///< free there
  std::string job;             ///< its id; empty: that of the environment, TRIREME_JOB_ID
  JobSecret secret;            ///< the same on all hosts; without one the ranks trust the network
};

struct LaunchOptions {
  int ranks = usable_cores();
  /// The output of rank N > 0, stdout and stderr in whole lines, goes to rank-N.log in this
  /// directory. If the path is empty, it goes to stdout and stderr, each line after "[rank N] ".
  std::filesystem::path log_directory;
  Files* files = &real_files();  ///< where the log directory lies
  /// Each rank runs on its own part of the usable cores, if there is a core for each rank.
  bool pin_to_cores = false;
  Supervisor::Options ending;
  HostsOptions hosts;
  shm::Options world;             ///< of the memory that the ranks share; its timeout is for all
                                  ///< their communicators, those between hosts included
  int stdout_fd = STDOUT_FILENO;  ///< rank 0 writes to it directly
  int stderr_fd = STDERR_FILENO;
  const Clock* clock = &Clock::system();  ///< of the deadlines in `ending`
};

/// What a rank runs. Gets its rank and the file descriptor of the shared world (shm::World::open)
/// and returns its exit code. An exception is written to stderr and becomes exit_code_of(error).
using RankMain = std::function<int(int rank, int world_fd)>;

/// Runs `main` on each rank in a forked child process, so that everything this process has loaded
/// is there at once. Must be called before another thread is started (OpenMP and libtorch start
/// threads at the first parallel loop): a lock that such a thread holds stays closed in the child.
///
/// Returns when every rank has ended. While it runs, SIGINT, SIGTERM, SIGQUIT, SIGUSR1 and, unless
/// it is ignored as under nohup, SIGHUP go to the ranks as supervisor.h says; SIGTSTP (Ctrl-Z)
/// stops the ranks with this process, and they go on with it. Each rank leads a process group, so
/// Ctrl-C reaches only the launcher; its stdin is empty; it sees the variables of environment.h. On
/// one host these include the id and the secret of a job of its own. The shared world belongs to
/// the launcher and has no name: if the launcher is killed, the kernel kills the ranks and nothing
/// is left.
///
/// Throws UsageError for impossible options, DataError if a log file cannot be opened.
ExitReport launch(const LaunchOptions& options, const RankMain& main);

/// The same for a program and its arguments, looked up in PATH. OMP_NUM_THREADS is set to the
/// rank's share of the cores unless it is set already. Throws UsageError if it cannot be started.
ExitReport launch(const LaunchOptions& options, const std::vector<std::string>& command);

}  // namespace trireme
