#include "trireme/comm/shm/watcher.h"

#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <vector>

#include "trireme/base/error.h"
#include "trireme/base/system_error.h"
#include "trireme/comm/shm/segment.h"

namespace trireme::shm {

namespace {

constexpr int kMillisecondsBetweenLooks = 20;

// The header of glibc 2.36 declares pidfd_open() without extern "C", so that C++ programs do not
// link.
FileDescriptor open_pidfd(pid_t process) {
  return FileDescriptor(static_cast<int>(::syscall(SYS_pidfd_open, process, 0)));
}

[[noreturn]] void refuse_watch(const char* call) {
  throw CommError(
      fmt::format("shared memory: ranks cannot watch each other's processes: {}: {}; start them by "
                  "trireme run",
                  call, system_reason(errno)));
}

/// The processes of the other ranks that have joined.
class Watched {
 public:
  Watched(Segment& segment, int world_rank) : segment_(segment) {
    for (int rank = 0; rank < segment.header().ranks; ++rank) {
      if (rank != world_rank) missing_.push_back(rank);
    }
  }

  bool complete() const { return missing_.empty(); }

  void look_for_the_missing() {
    std::erase_if(missing_, [this](int rank) {
      const pid_t process = segment_.control(rank).process.load();
      if (process == 0) return false;
      // Ranks that are threads of one process end together.
      if (process == ::getpid()) return true;
      FileDescriptor ended = open_pidfd(process);
      if (ended.is_open()) {
        running_.push_back({rank, std::move(ended)});
      } else if (errno == ESRCH) {
        judge(rank);
      } else {
        return false;
      }
      return true;
    });
  }

  std::vector<pollfd> to_poll() const {
    std::vector<pollfd> polled;
    for (const Process& process : running_) polled.push_back({process.ended.fd(), POLLIN, 0});
    return polled;
  }

  /// `polled` is the result of to_poll(), after poll().
  void take(const pollfd* polled) {
    std::erase_if(running_, [&](const Process& process) {
      if ((polled++)->revents == 0) return false;
      judge(process.rank);
      return true;
    });
  }

 private:
  struct Process {
    int rank;
    FileDescriptor ended;
  };

  void judge(int rank) {
    if (segment_.control(rank).departed.load() == 0) segment_.mark_vanished(rank);
  }

  Segment& segment_;
  std::vector<int> missing_;
  std::vector<Process> running_;
};

}  // namespace

Watcher::Watcher(Segment& segment, int world_rank)
    : segment_(segment), world_rank_(world_rank), stop_(::eventfd(0, EFD_CLOEXEC)) {
  if (!stop_.is_open()) refuse_watch("eventfd");
  if (!open_pidfd(::getpid()).is_open()) refuse_watch("pidfd_open");
  // Signals must be handled by the threads of the program.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  ::pthread_sigmask(SIG_BLOCK, &all, &before);
  thread_ = start_thread("shared memory", [this] { watch(); });
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

Watcher::~Watcher() {
  ::eventfd_write(stop_.fd(), 1);
  thread_.join();
}

void Watcher::watch() {
  Watched watched(segment_, world_rank_);
  for (;;) {
    watched.look_for_the_missing();
    std::vector<pollfd> polled = watched.to_poll();
    polled.push_back({stop_.fd(), POLLIN, 0});
    const int patience = watched.complete() ? -1 : kMillisecondsBetweenLooks;
    if (::poll(polled.data(), polled.size(), patience) <= 0) continue;
    if (polled.back().revents != 0) return;
    watched.take(polled.data());
  }
}

}  // namespace trireme::shm
