#pragma once

#include <unistd.h>

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "trireme/comm/shm/world.h"
#include "trireme/launch/machine.h"
#include "trireme/launch/supervisor.h"

namespace trireme {

/// The other hosts of a world, each with a launcher of its own and as many ranks as this one.
struct HostsOptions {
  int count = 1;
  int index = 0;               ///< of this host; the first one has the ranks from 0 on
  std::string master_address;  ///< of the first host
  int master_port = 29500;     ///< free there
};

struct LaunchOptions {
  int ranks = usable_cores();
  /// Where the output of rank N > 0 goes, stdout and stderr in whole lines, as rank-N.log. If
  /// empty it goes to stdout and stderr, each line behind "[rank N] ".
  std::filesystem::path log_directory;
  /// Rank r runs on its own share of the usable cores, if there are as many cores as ranks.
  bool pin_to_cores = false;
  Supervisor::Options ending;
  HostsOptions hosts;
  shm::Options world;             ///< of the memory that the ranks share
  int stdout_fd = STDOUT_FILENO;  ///< rank 0 writes to it directly
  int stderr_fd = STDERR_FILENO;
};

/// What a rank runs: its exit code, from its rank and the file descriptor of the shared world
/// (shm::World::open). An exception is written to stderr and ends in exit_code_of() it.
using RankMain = std::function<int(int rank, int world_fd)>;

/// Runs `main` on each rank in a child process that is forked, not started anew: what this process
/// has loaded is there at once. Call it before any other thread is started (OpenMP and libtorch
/// start theirs at the first parallel loop), or the children may find locks that nobody opens.
///
/// Returns when every rank has ended. While it runs, SIGINT, SIGTERM and SIGUSR1 go to the ranks as
/// supervisor.h says. Ranks lead process groups of their own, so Ctrl-C reaches only the launcher;
/// their stdin is empty; they see the variables of environment.h. The shared world belongs to the
/// launcher and has no name: should it be killed, the kernel kills the ranks and nothing is left.
///
/// Throws UsageError for impossible options, DataError if a log file cannot be opened.
Verdict launch(const LaunchOptions& options, const RankMain& main);

/// The same for a program and its arguments, looked up in PATH. OMP_NUM_THREADS is set to the
/// rank's share of the cores unless it is set already. Throws UsageError if it cannot be started.
Verdict launch(const LaunchOptions& options, const std::vector<std::string>& command);

}  // namespace trireme
