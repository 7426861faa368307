#include "trireme/launch/rank_process.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <iostream>
#include <optional>
#include <utility>

#include "trireme/base/error.h"
#include "trireme/base/system_error.h"
#include "trireme/launch/exit_codes.h"
#include "trireme/launch/machine.h"

namespace trireme {
namespace {

[[noreturn]] void throw_system_error(const char* call) {
  throw UsageError(std::string("launch: a rank cannot be started: ") + call + ": " +
                   system_reason(errno));
}

struct Pipe {
  FileDescriptor read_end;
  FileDescriptor write_end;

  Pipe() {
    int fds[2];
    if (::pipe2(fds, O_CLOEXEC) != 0) throw_system_error("pipe");
    read_end = FileDescriptor(fds[0]);
    write_end = FileDescriptor(fds[1]);
  }
};

// glibc 2.36 declares pidfd_open() without extern "C", so that C++ programs do not link.
FileDescriptor open_pidfd(pid_t pid) {
  return FileDescriptor(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
}

void flush_output() {
  std::cout.flush();
  std::cerr.flush();
  std::fflush(nullptr);
}

void die_with_parent(pid_t parent) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  // The parent may have died before the request.
  if (::getppid() != parent) ::_exit(exit_code_of_signal(SIGKILL));
}

void take_signals(const sigset_t& mask) {
  // An ignored signal would stay ignored in the program, and with it requests to stop.
  // SIGHUP is not among them: under nohup it stays ignored.
  for (const int signal : {SIGINT, SIGTERM, SIGQUIT, SIGUSR1, SIGPIPE}) ::signal(signal, SIG_DFL);
  // Ranks run in the background of the terminal: with `stty tostop`, writing would stop them.
  ::signal(SIGTTOU, SIG_IGN);
  ::sigprocmask(SIG_SETMASK, &mask, nullptr);
}

// Exceptions must not leave it: the callers belong to the launcher.
int run_function(const std::function<int()>& main) noexcept {
  try {
    return main();
  } catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
    return static_cast<int>(exit_code_of(error));
  } catch (...) {
    std::cerr << "an exception that is not a std::exception\n";
    return static_cast<int>(ExitCode::kInternalError);
  }
}

// Returns only if the program cannot be started, with errno.
int exec_program(const std::vector<std::string>& command) {
  std::vector<char*> argv;
  for (const std::string& word : command) argv.push_back(const_cast<char*>(word.c_str()));
  argv.push_back(nullptr);
  ::execvp(argv[0], argv.data());
  return errno;
}

struct ChildEnds {
  int stdout_fd;
  int stderr_fd;
  int failure_fd;  // the child writes errno to it if the program cannot be started
};

[[noreturn]] void become_rank(const RankSpec& spec, pid_t parent, ChildEnds ends) {
  ::setpgid(0, 0);
  die_with_parent(parent);
  ::dup2(ends.stdout_fd, STDOUT_FILENO);
  ::dup2(ends.stderr_fd, STDERR_FILENO);
  FileDescriptor nothing(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  ::dup2(nothing.fd(), STDIN_FILENO);
  nothing.close();
  for (const int fd : spec.closed_fds) ::close(fd);
  if (spec.inherited_fd >= 0) ::fcntl(spec.inherited_fd, F_SETFD, 0);
  for (const auto& [name, value] : spec.environment) ::setenv(name.c_str(), value.c_str(), 1);
  if (!spec.cores.empty()) run_on_cores(spec.cores);
  take_signals(spec.signal_mask);

  if (spec.main) {
    ::close(ends.failure_fd);
    const int code = run_function(spec.main);
    flush_output();
    // Not exit(), which would run destructors of the launcher's objects.
    ::_exit(code);
  }
  const int reason = exec_program(spec.command);
  [[maybe_unused]] const ssize_t told = ::write(ends.failure_fd, &reason, sizeof reason);
  ::_exit(127);
}

// Returns 0 once the child has been started.
int read_failure(int fd) {
  int reason = 0;
  ssize_t bytes;
  do {
    bytes = ::read(fd, &reason, sizeof reason);
  } while (bytes < 0 && errno == EINTR);
  return bytes == sizeof reason ? reason : 0;
}

std::string cannot_start(const std::string& program, int reason) {
  std::string message = "run: cannot start \"" + program + "\": " + system_reason(reason);
  std::error_code ignored;
  const bool here =
      program.find('/') == std::string::npos && std::filesystem::exists(program, ignored);
  if (reason == ENOENT && here) message += "; to run the one in this folder say ./" + program;
  return message;
}

}  // namespace

RankProcess::RankProcess(const RankSpec& spec) {
  Pipe err;
  Pipe failure;
  std::optional<Pipe> out;
  if (spec.stdout_fd < 0) out.emplace();
  flush_output();

  const pid_t parent = ::getpid();
  pid_ = ::fork();
  if (pid_ < 0) throw_system_error("fork");
  if (pid_ == 0) {
    err.read_end.close();
    failure.read_end.close();
    if (out) out->read_end.close();
    become_rank(
        spec, parent,
        {out ? out->write_end.fd() : spec.stdout_fd, err.write_end.fd(), failure.write_end.fd()});
  }
  ::setpgid(pid_, pid_);  // here as well: a signal may be sent before the child has done it
  pidfd_ = open_pidfd(pid_);
  const int pidfd_error = errno;

  failure.write_end.close();
  if (const int reason = read_failure(failure.read_end.fd()); reason != 0) {
    reap();
    throw UsageError(cannot_start(spec.command.front(), reason));
  }
  if (!pidfd_.is_open()) {
    signal(SIGKILL);
    reap();
    errno = pidfd_error;
    throw_system_error("pidfd_open");
  }
  if (out) stdout_ = std::move(out->read_end);
  stderr_ = std::move(err.read_end);
}

RankProcess::RankProcess(RankProcess&& other) noexcept
    : pid_(std::exchange(other.pid_, -1)),
      pidfd_(std::move(other.pidfd_)),
      stdout_(std::move(other.stdout_)),
      stderr_(std::move(other.stderr_)) {}

RankProcess::~RankProcess() {
  if (pid_ < 0) return;
  signal(SIGKILL);
  reap();
}

void RankProcess::signal(int signal) const {
  if (pid_ > 0) ::kill(-pid_, signal);
}

ExitStatus RankProcess::reap() {
  siginfo_t info;
  while (::waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOWAIT) != 0 &&
         errno == EINTR) {
  }
  // Before the process is reaped: its number can then not belong to another group.
  signal(SIGKILL);
  int status = 0;
  while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
  }
  pid_ = -1;
  pidfd_.close();
  return ExitStatus::from_wait(status);
}

}  // namespace trireme
