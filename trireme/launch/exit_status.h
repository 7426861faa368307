#pragma once

#include <string>

namespace trireme {

/// How a process ended: by its exit code, or by a signal.
struct ExitStatus {
  int code = 0;    ///< 0 to 255; has no meaning if `signal` is set
  int signal = 0;  ///< the signal that ended it, or 0

  static ExitStatus exited(int code) { return {code, 0}; }
  static ExitStatus killed(int signal) { return {0, signal}; }

  /// `wait_status`: as waitpid() returns it.
  static ExitStatus from_wait(int wait_status);

  bool ok() const { return code == 0 && signal == 0; }

  /// As in a shell: the code, or 128 + signal.
  int shell_code() const;

  bool operator==(const ExitStatus&) const = default;
};

/// "SIGSEGV"; "signal 40" for a signal without a name.
std::string name_of_signal(int signal);

/// "killed by SIGKILL, often the out-of-memory killer or kill -9", "killed by SIGSEGV: invalid
/// memory access", "exit code 3".
std::string explain(ExitStatus status);

/// The same for a process of trireme, whose codes are those of ExitCode: "exit code 3 (a file is
/// missing, torn or not what it says)". A program of the user's may mean something else by them.
std::string explain_own(ExitStatus status);

}  // namespace trireme
