#include "tests/launch/launched.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <thread>

#include "trireme/base/output_file.h"

namespace trireme::test {

bool Notes::ready(int ranks) const {
  for (int rank = 0; rank < ranks; ++rank) {
    if (pid[rank] == 0) return false;
  }
  return true;
}

bool becomes_true(const std::function<bool()>& condition) {
  constexpr int kAttempts = 30'000;
  for (int i = 0; i < kAttempts; ++i) {
    if (condition()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return false;
}

Capture::Capture() : file_(open_output_file("capture")) {}

std::string Capture::text() const {
  std::string text(static_cast<std::size_t>(lseek(file_.fd(), 0, SEEK_END)), '\0');
  const ssize_t count = pread(file_.fd(), text.data(), text.size(), 0);
  text.resize(count < 0 ? 0 : static_cast<std::size_t>(count));
  return text;
}

LauncherProcess::LauncherProcess(const std::function<void()>& launches) : pid_(fork()) {
  if (pid_ != 0) return;
  try {
    launches();
  } catch (...) {
    _exit(1);
  }
  _exit(0);
}

LauncherProcess::~LauncherProcess() {
  if (pid_ <= 0) return;
  kill(pid_, SIGKILL);
  waitpid(pid_, nullptr, 0);
}

void LauncherProcess::signal(int signal) const {
  kill(pid_, signal);
}

bool LauncherProcess::wait() {
  const bool ended = becomes_true([&] { return waitpid(pid_, nullptr, WNOHANG) == pid_; });
  if (ended) pid_ = -1;
  return ended;
}

Orphanage::Orphanage() {
  prctl(PR_SET_CHILD_SUBREAPER, 1);
}

Orphanage::~Orphanage() {
  prctl(PR_SET_CHILD_SUBREAPER, 0);
}

bool Orphanage::sees_the_end_of(pid_t pid) const {
  const bool ended = becomes_true([&] {
    waitpid(pid, nullptr, WNOHANG);
    return kill(pid, 0) != 0;
  });
  if (!ended) kill(pid, SIGKILL);  // a test that fails leaves nothing behind either
  return ended;
}

}  // namespace trireme::test
