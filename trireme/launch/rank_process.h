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

/// What a rank's process is to be.
struct RankSpec {
  std::function<int()> main;                       ///< run in the child; or, if empty,
  std::vector<std::string> command;                ///< the program and its arguments
  std::map<std::string, std::string> environment;  ///< set on top of what is inherited
  std::vector<int> cores;                          ///< to run on; empty: anywhere
  int inherited_fd = -1;                           ///< stays open in the child
  std::vector<int> closed_fds;                     ///< the launcher's own, which the child closes
  int stdout_fd = -1;                              ///< becomes its stdout; -1: a pipe
  sigset_t signal_mask{};                          ///< its signal mask
};

/// A child process and the ends of its output pipes. It leads its own process group, so that Ctrl-C
/// at the terminal does not reach it, reads an empty stdin, and dies with the thread that started
/// it. The destructor kills what still runs.
class RankProcess {
 public:
  /// Forks, so the caller should have no other threads if `main` is given. Throws UsageError naming
  /// a program that cannot be started and why.
  explicit RankProcess(const RankSpec& spec);
  RankProcess(RankProcess&& other) noexcept;
  RankProcess& operator=(RankProcess&&) = delete;
  ~RankProcess();

  /// Readable once the process has ended; closed by reap().
  const FileDescriptor& ended() const { return pidfd_; }

  /// To read from; may be moved out of. Not open where stdout_fd was given.
  FileDescriptor& stdout_pipe() { return stdout_; }
  FileDescriptor& stderr_pipe() { return stderr_; }

  /// To the whole process group.
  void signal(int signal) const;

  /// Waits for the end; what the rank started in its process group is killed with it.
  ExitStatus reap();

 private:
  pid_t pid_ = -1;
  FileDescriptor pidfd_;
  FileDescriptor stdout_;
  FileDescriptor stderr_;
};

}  // namespace trireme
