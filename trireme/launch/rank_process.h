#pragma once

#include <signal.h>
#include <sys/types.h>

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "trireme/base/file_descriptor.h"
#include "trireme/launch/exit_status.h"

namespace trireme {

/// How to start the process of a rank.
struct RankSpec {
  std::function<int()> main;                       ///< runs in the child, unless empty
  std::vector<std::string> command;                ///< else the program and its arguments
  std::map<std::string, std::string> environment;  ///< added to the inherited variables
  std::vector<int> cores;                          ///< to run on; empty: all
  int inherited_fd = -1;                           ///< stays open in the child
  std::vector<int> closed_fds;                     ///< of the launcher; the child closes them
  int stdout_fd = -1;                              ///< becomes its stdout; -1: a new pipe
  sigset_t signal_mask{};                          ///< its signal mask
};

/// A child process and the read ends of its output pipes. The child leads a process group, so that
/// Ctrl-C at the terminal does not reach it, has an empty stdin, and is killed when the thread that
/// started it ends. The destructor kills its process group.
class RankProcess {
 public:
  /// Forks, so the caller should have no other threads if `main` is given. Throws UsageError with
  /// the reason if the program cannot be started.
  explicit RankProcess(const RankSpec& spec);
  RankProcess(RankProcess&& other) noexcept;
  RankProcess& operator=(RankProcess&&) = delete;
  ~RankProcess();

  /// Readable once the process has ended; closed by reap().
  const FileDescriptor& ended() const { return pidfd_; }

  /// May be moved from. stdout_pipe() is not open if stdout_fd was given.
  FileDescriptor& stdout_pipe() { return stdout_; }
  FileDescriptor& stderr_pipe() { return stderr_; }

  /// Sends `signal` to the whole process group.
  void signal(int signal) const;

  /// Waits for the end of the process, then kills the rest of its process group.
  ExitStatus reap();

 private:
  pid_t pid_ = -1;
  FileDescriptor pidfd_;
  FileDescriptor stdout_;
  FileDescriptor stderr_;
};

}  // namespace trireme
