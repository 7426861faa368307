#include "trireme/launch/exit_status.h"

#include <sys/wait.h>

#include <csignal>
#include <cstring>

#include "trireme/launch/exit_codes.h"

namespace trireme {
namespace {

const char* cause_of_signal(int signal) {
  switch (signal) {
    case SIGKILL:
      return ", often the out-of-memory killer or kill -9";
    case SIGSEGV:
      return ": invalid memory access";
    case SIGBUS:
      return ": memory that is not available, often a full or truncated mapped file";
    case SIGILL:
      return ": an instruction that this processor does not have";
    case SIGFPE:
      return ": an integer division by zero";
    case SIGABRT:
      return ": abort(), often a failed assertion or an uncaught exception";
    case SIGPIPE:
      return ": it wrote to a pipe that has no reader any more";
    case SIGXCPU:
      return ": it has used up its limit of processor time";
    case SIGXFSZ:
      return ": it has reached its limit of file size";
    default:
      return "";
  }
}

}  // namespace

ExitStatus ExitStatus::from_wait(int wait_status) {
  return WIFSIGNALED(wait_status) ? killed(WTERMSIG(wait_status))
                                  : exited(WEXITSTATUS(wait_status));
}

int ExitStatus::shell_code() const {
  return signal != 0 ? exit_code_of_signal(signal) : code;
}

std::string name_of_signal(int signal) {
  const char* name = sigabbrev_np(signal);
  return name != nullptr ? std::string("SIG") + name : "signal " + std::to_string(signal);
}

std::string explain(ExitStatus status) {
  if (status.signal != 0) {
    return "killed by " + name_of_signal(status.signal) + cause_of_signal(status.signal);
  }
  return "exit code " + std::to_string(status.code);
}

std::string explain_own(ExitStatus status) {
  const bool has_meaning = status.signal == 0 && status.code >= 2 &&
                           status.code <= static_cast<int>(ExitCode::kDiverged);
  if (!has_meaning) return explain(status);
  return explain(status) + " (" + std::string(meaning_of(static_cast<ExitCode>(status.code))) + ")";
}

}  // namespace trireme
